"""A release candidate: read from the records in build/, and rejected if the gate or the rehearsal failed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from loop.core.dvc import Lock
from loop.core.errors import LoopError, Rejected
from loop.core.git import Git
from loop.core.project import Project
from loop.core.release_state import SERVER, Track
from loop.packaging.bento import Bento
from loop.packaging.key import release_key
from loop.packaging.records import MONITOR, command, record


class Challenger(BaseModel):
    """The candidate in gate.json."""

    metrics: dict[str, Any]
    model_md5: str


class Gate(BaseModel):
    """gate.json: the verdict, and what it compares. `keep` means sound but not better than the champion."""

    verdict: Literal["promote", "keep", "block"]
    reasons: list[str]
    challenger: Challenger
    champion: dict[str, Any] | None  # its key, and its metrics if the models were compared
    difference: dict[str, Any] | None  # of one metric: challenger minus champion, with its interval


class Register(BaseModel):
    """register.json: the name and version of the model in the model registry."""

    name: str
    version: int | str
    model_md5: str


class Rehearse(BaseModel):
    """rehearse.json: the result of replaying held-out rows; each extra mapping holds one side's figures."""

    passed: bool
    reasons: list[str]
    note: str = ""  # the origin of the champion's bento, and whether the rehearsal lacked a GPU
    model_config = {"extra": "allow"}

    @property
    def sides(self) -> dict[str, dict[str, Any]]:
        return {name: side for name, side in (self.model_extra or {}).items() if isinstance(side, dict)}


class Image(BaseModel):
    """image.json: the image's name with its digest, and its key; `image` is null if no engine built it."""

    image: str | None
    kind: str
    key: str
    pushed: bool | None = None  # `loop push-image` sets it to true; only a container has it


@dataclass(frozen=True)
class Candidate:
    """A release that is ready to be committed, together with its gate, rehearsal and image records."""

    model: str
    track: Track
    gate: Gate
    rehearse: Rehearse
    image: Image
    monitor: str | None  # the monitor image; None if no engine built it or the environment does not run it


def read(project: Project, *, watched: bool = True) -> Candidate:
    """Return a model's candidate from its records in build/.

    With `watched` it includes the image of the canary judge and the drift job. Raises LoopError if an earlier
    command has not run for this candidate, or if HEAD's dvc.lock records another model, and Rejected if the
    gate or the rehearsal failed.
    """
    gate, rehearse = record(project, Gate), record(project, Rehearse)
    if gate.verdict != "promote" and gate.challenger.model_md5 == project.model_md5:
        raise Rejected(f"{project.public}: the gate says {gate.verdict}: {'; '.join(gate.reasons)}")
    if not rehearse.passed:
        fix = f"correct the cause, then {command(project, 'bento')} && {command(project, 'rehearse')}"
        raise Rejected(f"{project.public}: the rehearsal failed: {'; '.join(rehearse.reasons)}", fix=fix)
    registered, bento = record(project, Register), record(project, Bento)
    image, watching = pushed(project), monitor(project.root) if watched else None
    git = Git(project.root)
    commit = git.head()
    committed = Lock.parse(git.read(commit, "dvc.lock") or "")
    if committed.stages == {} or committed.model_md5(project.model) != project.model_md5:
        fix = "git commit dvc.lock params.yaml, push, and release again"
        raise LoopError(f"dvc.lock of {commit[:12]} does not record the model in the work tree", fix=fix)
    for name, found, expected in (  # a record in build/ may belong to an earlier candidate
        ("gate", gate.challenger.model_md5, project.model_md5),
        ("register", registered.model_md5, project.model_md5),
        ("bento", bento.model_md5, project.model_md5),
        ("image", image.key, bento.key),
        ("rehearse", rehearse.sides.get("candidate", {}).get("key"), bento.key),
    ):
        if found != expected:
            what = f"{project.build / name}.json belongs to {found}, the candidate is {expected}"
            raise LoopError(what, fix=command(project, name))
    track = Track(
        key=bento.key,
        image=str(image.image),
        weight=0,
        model_md5=project.model_md5,
        data_md5=project.data_md5,
        commit=commit,
        mlflow=f"{registered.name}/{registered.version}",
        bento=bento.tag,
        device=None if bento.device == "cpu" else bento.device,
        server=SERVER,
    )
    return Candidate(project.model, track, gate, rehearse, image, watching)


def check_current(project: Project, track: Track) -> None:
    """Raise LoopError if the candidate's bento was built from other files than this checkout has now."""
    if (now := release_key(project, device=track.device or "cpu")) != track.key:
        raise LoopError(
            f"{project.build}/bento.json: the bento is release {track.key}, but this checkout builds {now}. "
            f"One of these has changed since: the scorer, bentos/{project.package}, the server, "
            "the base image, the registry or sla.p99_ms",
            fix=" && ".join(command(project, each) for each in ("bento", "rehearse", "image", "push-image")),
        )


def monitor(root: Path) -> str | None:
    """Return the name of the monitor image, None if no engine built it. Raises LoopError if not pushed."""
    return pushed(Project(root, MONITOR)).image


def pushed(project: Project) -> Image:
    """Return image.json. Raises LoopError if the image is not pushed, because no cluster could pull it."""
    found = record(project, Image)
    if found.pushed is False:
        what = f"{project.build / 'image.json'}: {found.image} was built but not pushed"
        raise LoopError(what, fix=command(project, "push-image"))
    return found
