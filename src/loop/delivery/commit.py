"""Commits one change of an environment as the bot, and tries again if main has moved meanwhile.

The message of such a commit has a subject for people, and trailers that commands read back.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from loop.core import release_state
from loop.core.errors import LoopError
from loop.core.git import Change, Git
from loop.core.names import public
from loop.core.release_state import State, Track, files
from loop.core.text import one_line
from loop.delivery import guard, steps


@dataclass(frozen=True)
class Place:
    """One model in one environment."""

    model: str
    environment: str

    def __str__(self) -> str:
        return f"{public(self.model)}/{self.environment}"


@dataclass(frozen=True)
class Now:
    """The input of an action: a commit of main, and the release state of the model at that commit."""

    commit: str
    state: State
    notes: list[str] = field(default_factory=list)  # remarks that are added to the commit's `Why` trailer


@dataclass(frozen=True)
class Action:
    """One change of a model in one environment: a function of the state, and the reason for the commit.

    `change` reads only main as origin has it now, never the work tree, so it can run again after a lost push.
    """

    name: str  # name of the action: release, promote, rollback or monitor
    place: Place
    change: Callable[[Now], State | None]
    why: str


@dataclass(frozen=True)
class Done:
    """The result of an action. If nothing had to be changed, `commit` is None."""

    commit: str | None
    after: State
    notes: tuple[str, ...] = ()


def read(git: Git, commit: str, place: Place) -> State:
    """Return a model's release state at a commit. Raises LoopError if the commit has no release.yaml."""
    if (found := release_state.at(git, commit, place.environment, place.model)) is None:
        path = release_state.file(place.environment, place.model)
        fix = f"push kustomize/overlays/{place.environment}/{public(place.model)}, made like another model's"
        raise LoopError(f"{path} is not in {commit[:12]} of origin", fix=fix)
    return found


def land(git: Git, action: Action) -> Done:
    """Commit an action on origin's main, and compute it again if another push came first."""
    seen: list[tuple[Now, State]] = []

    def decide(parent: str) -> Change | None:
        now = Now(parent, read(git, parent, action.place))
        after = action.change(now)
        seen.append((now, after or now.state))
        return change(action, now, after) if after else None

    commit = git.land("main", decide)
    now, after = seen[-1]
    return Done(commit, after, tuple(now.notes))


def change(action: Action, now: Now, after: State) -> Change:
    """Return the files and the message of an action's commit.

    Raises Rejected if the commit would change a file that only people may edit.
    """
    place = action.place
    written = files(after, place.environment, place.model)
    guard.check(written, f"{action.name} of {place}")
    track = _about(action.name, now.state, after)
    trailers = {
        "Action": action.name,
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
        "Why": one_line("; ".join(part for part in (*now.notes, action.why) if part)),
    }
    lines = "\n".join(f"{name}: {value}" for name, value in trailers.items() if value)
    return Change(written, f"{place}: {told(action.name, now.state, after)}\n\n{lines}\n")


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
    key = _about(action, before, after).key
    if action == "rollback":
        return f"roll back {key}" + ("" if before.canary or not after.stable else f" to {after.stable.key}")
    if action == "monitor":
        return f"judge and drift job use image {_monitor(before, after).removeprefix('sha256:')[:12]}"
    if after.canary is None:
        return f"{key} is stable, canary removed" if before.previous else f"release {key}"
    if before.canary is None or before.canary.key != key:
        return f"canary {key} at 0 %"
    turns = {
        "handover": f"stable switches to {key}",
        "return": f"traffic returns to stable, which now serves {key}",
    }
    return turns.get(steps.step_of(after)) or f"canary {before.canary.weight} % → {after.canary.weight} %"
