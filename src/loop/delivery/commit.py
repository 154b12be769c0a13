"""Commits one change of an environment as the bot, and reads these changes back from Git's log.

The message of such a commit has a subject for people, and trailers that commands read back.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from loop.core import release_state
from loop.core.errors import LoopError
from loop.core.git import Change, Git
from loop.core.names import public
from loop.core.release_state import State, Track, files
from loop.core.results import Entry
from loop.core.text import one_line
from loop.delivery import guard, steps

TRAILERS = ("Action", "Step", "Release-Key", "Digest", "Why")  # those that a history shows
FIELD, RECORD = "\x1f", "\x1e"


@dataclass(frozen=True)
class Place:
    """One model in one environment."""

    model: str
    environment: str

    def __str__(self) -> str:
        return f"{public(self.model)}/{self.environment}"

    @property
    def overlay(self) -> str:
        """The path of its kustomize folder, relative to the repository's root."""
        return f"kustomize/overlays/{self.environment}/{public(self.model)}"

    @property
    def namespace(self) -> str:
        return f"{public(self.model)}-{self.environment}"

    def state(self, root: Path) -> State:
        """Return the release state in a work tree. Raises LoopError if it cannot be read."""
        return release_state.read(root, self.environment, self.model)


@dataclass(frozen=True)
class Now:
    """The input of a change: a commit of main, and the release state of the model at that commit."""

    commit: str
    state: State
    notes: list[str] = field(default_factory=list)  # remarks that are added to the commit's `Why` trailer


@dataclass(frozen=True)
class Done:
    """The result of a change."""

    commit: str | None  # None if the release state did not have to change
    after: State
    notes: tuple[str, ...] = ()


def read(git: Git, commit: str, place: Place) -> State:
    """Return a model's release state at a commit. Raises LoopError if the commit has no release.yaml."""
    if (found := release_state.at(git, commit, place.environment, place.model)) is None:
        path = release_state.file(place.environment, place.model)
        fix = f"push {place.overlay}, made like another model's"
        raise LoopError(f"{path} is not in {commit[:12]} of origin", fix=fix)
    return found


def land(git: Git, action: str, place: Place, decide: Callable[[Now], State | None], why: str) -> Done:
    """Commit a change on origin's main, and compute it again if another push came first.

    `action` is release, promote, rollback or monitor, and `why` the reason in the message. `decide` returns
    the new state, or None if there is nothing to do. It reads only main as origin has it now, never the work
    tree, so it can run again after a lost push.
    """
    seen: list[tuple[Now, State]] = []

    def change(parent: str) -> Change | None:
        now = Now(parent, read(git, parent, place))
        after = decide(now)
        seen.append((now, after or now.state))
        return written(action, place, now, after, why) if after else None

    commit = git.land("main", change)
    now, after = seen[-1]
    return Done(commit, after, tuple(now.notes))


def written(action: str, place: Place, now: Now, after: State, why: str) -> Change:
    """Return the files and the message of a change's commit.

    Raises Rejected if the commit would change a file that only people may edit.
    """
    texts = files(after, place.environment, place.model)
    guard.check(texts, f"{action} of {place}")
    track = _about(action, now.state, after)
    trailers = {
        "Action": action,
        "Environment": place.environment,
        "Model": public(place.model),
        "Release-Key": track.key,
        "Model-MD5": track.model_md5,
        "Data-MD5": track.data_md5,
        "Training-Commit": track.commit,
        "Bento": track.bento,
        "Digest": track.image.split("@")[1],
        "Monitor": _monitor(now.state, after),
        "Step": steps.step_of(after),
        "Why": one_line("; ".join(part for part in (*now.notes, why) if part)),
    }
    lines = "\n".join(f"{name}: {value}" for name, value in trailers.items() if value)
    return Change(texts, f"{place}: {told(action, now.state, after)}\n\n{lines}\n")


def _monitor(before: State, after: State) -> str:
    """Return the digest of the monitor image if the change sets a new image, else an empty string."""
    return after.monitor.split("@")[1] if after.monitor and after.monitor != before.monitor else ""


def _about(action: str, before: State, after: State) -> Track:
    """Return the release that a change is about: for a rollback, the one that is taken away."""
    track = before.canary or before.stable if action == "rollback" else after.canary or after.stable
    if track is None:
        raise ValueError("neither stable nor canary has a release")
    return track


def told(action: str, before: State, after: State) -> str:
    """Describe a change in a few words, for the commit's subject."""
    if action == "monitor":
        return f"judge and drift job use image {_monitor(before, after).removeprefix('sha256:')[:12]}"
    said = f"{action} {_about(action, before, after).key}"
    if action == "rollback" and not before.canary and after.stable:
        return f"{said} to {after.stable.key}"
    was, now = steps.step_of(before), steps.step_of(after)
    return said if was == now else f"{said}: {was} → {now}"


def history(git: Git, place: Place, commit: str) -> list[Entry]:
    """Return every change of a model in an environment up to a commit, newest first.

    Changes that a person committed have empty fields for action, step, key, digest and why.
    """
    trailers = [f"%(trailers:key={name},valueonly,separator= )" for name in TRAILERS]
    form = FIELD.join(["%H", "%cI", "%an", "%s", *trailers]) + RECORD
    log = git.run("log", f"--format={form}", commit, "--", release_state.file(place.environment, place.model))
    return [Entry(*record.strip("\n").split(FIELD)) for record in log.split(RECORD) if record.strip()]
