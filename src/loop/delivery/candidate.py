"""A release candidate: read from the records in build/, and rejected if the gate or the rehearsal failed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from loop.core.dvc import Lock
from loop.core.errors import LoopError, Rejected
from loop.core.files import read_json
from loop.core.git import Git
from loop.core.plain import Device
from loop.core.project import Project
from loop.core.release_state import SERVER, Track

MONITOR = "build/monitor/image.json"
R = TypeVar("R", bound=BaseModel)


class Judged(BaseModel):
    metrics: dict[str, Any] = {}
    model_md5: str


class Champion(BaseModel):
    key: str
    metrics: dict[str, Any] = {}


class Gate(BaseModel):
    """gate.json: the gate's verdict on the model, its reasons, and the comparison with the champion."""

    verdict: str
    reasons: list[str]
    challenger: Judged
    champion: Champion | None
    difference: dict[str, Any] | None


class Register(BaseModel):
    """register.json: the name and version of the model in the model registry."""

    name: str
    version: int | str
    model_md5: str


class Bento(BaseModel):
    """bento.json: the release key and the bento's tag."""

    key: str
    tag: str
    model_md5: str
    device: Device = "cpu"


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
    """image.json: the image's name, its digest that Git pins, its release key, and layer sizes in bytes."""

    image: str
    digest: str
    kind: str
    key: str
    layers: list[dict[str, Any]] = []
    pushed: bool = True  # whether the image is pushed: `loop push-image` sets it to true


class Monitor(BaseModel):
    """monitor/image.json: the image of the canary judge and the drift job; null if no engine built it."""

    image: str | None
    pushed: bool = True


@dataclass(frozen=True)
class Candidate:
    """A release that is ready to be committed, together with its gate, rehearsal and image records."""

    model: str
    track: Track
    gate: Gate
    rehearse: Rehearse
    image: Image
    monitor: Monitor | None  # the monitor image; None if the environment runs neither judge nor drift job


def read(project: Project, *, watched: bool = True) -> Candidate:
    """Return a model's candidate from its records in build/.

    With `watched` it includes the image of the canary judge and the drift job. Raises LoopError if an earlier
    command has not run for this candidate, and Rejected if the gate or the rehearsal failed.
    """
    build = project.build
    gate, rehearse = record(project, Gate), record(project, Rehearse)
    if gate.verdict != "promote":
        raise Rejected(f"{project.public}: the gate says {gate.verdict}: {'; '.join(gate.reasons)}")
    if not rehearse.passed:
        raise Rejected(f"{project.public}: the rehearsal failed: {'; '.join(rehearse.reasons)}")
    registered, bento = record(project, Register), record(project, Bento)
    image, watching = record(project, Image), monitor(project.root) if watched else None
    _pushed(build / "image.json", image, f"./loop push-image {project.public}")
    commit = _committed(project)
    for name, found, expected in (  # a record in build/ may belong to an earlier candidate
        ("gate", gate.challenger.model_md5, project.model_md5),
        ("register", registered.model_md5, project.model_md5),
        ("bento", bento.model_md5, project.model_md5),
        ("image", image.key, bento.key),
        ("rehearse", rehearse.sides.get("candidate", {}).get("key"), bento.key),
    ):
        if found != expected:
            fix = f"./loop {name} {project.public}"
            raise LoopError(f"{build / name}.json belongs to {found}, the candidate is {expected}", fix=fix)
    track = Track(
        key=bento.key,
        image=image.image,
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


def monitor(root: Path) -> Monitor:
    """Return the pushed monitor image, which all models share. Raises LoopError if it is not pushed."""
    image = monitor_record(root)
    _pushed(root / MONITOR, image, "./loop push-image")
    return image


def monitor_record(root: Path) -> Monitor:
    """Return build/monitor/image.json, which `loop monitor-image` writes."""
    return _read(root / MONITOR, Monitor, "./loop monitor-image")


def record(project: Project, kind: type[R]) -> R:
    """Return one record of a candidate; the class names the file, so `Gate` reads gate.json.

    Raises LoopError, with the command that writes the record, if the file is missing or invalid.
    """
    name = kind.__name__.lower()
    return _read(project.build / f"{name}.json", kind, f"./loop {name} {project.public}")


def _read(path: Path, kind: type[R], fix: str) -> R:
    if not path.is_file():
        raise LoopError(f"{path} does not exist", fix=fix)
    try:
        return kind.model_validate(read_json(path))
    except (ValidationError, ValueError) as error:
        raise LoopError(f"{path}: {error}", fix=fix) from error


def _pushed(path: Path, image: Image | Monitor, fix: str) -> None:
    """Raise LoopError if an image is not pushed, because the cluster could not pull what Git names."""
    if not image.pushed:
        raise LoopError(f"{path}: {image.image} was built but not pushed", fix=fix)


def on_main(git: Git) -> str:
    """Return HEAD, from which everything in build/ was made. Raises LoopError unless origin's main has it."""
    commit = git.head()
    if not git.descends(git.fetch(), commit):
        raise LoopError(f"commit {commit[:12]} is not on origin's main", fix="push or merge it first")
    return commit


def _committed(project: Project) -> str:
    """Return HEAD. Raises LoopError unless dvc.lock is committed and HEAD is on main.

    Both must be on main so that everybody can fetch the code and the data of a release.
    """
    git = Git(project.root)
    commit = git.head()
    committed = Lock.parse(git.read(commit, "dvc.lock") or "")
    if committed.stages == {} or committed.model_md5(project.model) != project.model_md5:
        fix = "git commit dvc.lock params.yaml, push, and release again"
        raise LoopError(f"dvc.lock of {commit[:12]} does not record the model in the work tree", fix=fix)
    return on_main(git)
