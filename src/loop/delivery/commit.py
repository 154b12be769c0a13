"""Commits one change of an environment as the bot, and tries again if main has moved meanwhile."""

from collections.abc import Callable
from dataclasses import dataclass, field

from loop.core import release_state
from loop.core.errors import LoopError
from loop.core.git import Change, Git
from loop.core.names import public
from loop.core.release_state import State, files
from loop.delivery import guard, steps
from loop.delivery.message import message


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
    """The result of an action. `commit` is None if there was nothing to change."""

    commit: str | None
    before: State
    after: State
    notes: tuple[str, ...] = ()

    @property
    def step(self) -> str:
        return steps.step_of(self.after)


def read(git: Git, commit: str, place: Place) -> State:
    """Return a model's release state at a commit. Raises LoopError if the commit has no release.yaml."""
    if (found := release_state.at(git, commit, place.environment, place.model)) is None:
        path = release_state.file(place.environment, place.model)
        fix = f"push kustomize/overlays/{place.environment}/{public(place.model)}, made like another model's"
        raise LoopError(f"{path} is not in {commit[:12]} of origin", fix=fix)
    return found


def land(git: Git, action: Action, branch: str = "main") -> Done:
    """Commit an action on origin's branch, and compute it again if another push came first."""
    seen: list[tuple[Now, State]] = []

    def decide(parent: str) -> Change | None:
        now = Now(parent, read(git, parent, action.place))
        after = action.change(now)
        seen.append((now, after or now.state))
        return change(action, now, after) if after else None

    commit = git.land(branch, decide)
    now, after = seen[-1]
    return Done(commit, now.state, after, tuple(now.notes))


def change(action: Action, now: Now, after: State) -> Change:
    """Return the files and the message of an action's commit.

    Raises Rejected if the commit would change a file that only people may edit.
    """
    place = action.place
    written = files(after, place.environment, place.model)
    guard.check(written, f"{action.name} of {place}")
    why = "; ".join(part for part in (*now.notes, action.why) if part)
    return Change(written, message(action.name, (place.model, place.environment), why, now.state, after))
