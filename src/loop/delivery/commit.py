"""One change of an environment as one commit of the bot, landed by compare-and-swap."""

from collections.abc import Callable
from dataclasses import dataclass, field

from loop.core.errors import LoopError
from loop.core.git import Change, Git
from loop.core.names import public
from loop.delivery import guard, steps
from loop.delivery.message import message
from loop.delivery.state import State, files, folder, parse


@dataclass(frozen=True)
class Place:
    """One model in one environment."""

    model: str
    environment: str

    def __str__(self) -> str:
        return f"{public(self.model)}/{self.environment}"


@dataclass(frozen=True)
class Now:
    """What an action is decided on: a commit of main, and the place's state there."""

    commit: str
    state: State
    notes: list[str] = field(default_factory=list)  # what deciding adds to the commit's why


@dataclass(frozen=True)
class Action:
    """What is done to a place: how the state changes, and how the commit tells it.

    `change` takes everything it decides on from main as it is now, nothing from the work tree.
    """

    name: str  # release, promote, rollback or monitor
    place: Place
    change: Callable[[Now], State | None]
    why: str


@dataclass(frozen=True)
class Done:
    """What came of an action; `commit` is None where nothing was to be done."""

    commit: str | None
    before: State
    after: State
    notes: tuple[str, ...] = ()

    @property
    def step(self) -> str:
        return steps.step_of(self.after)


def read(git: Git, commit: str, place: Place) -> State:
    """The state of a place as a commit has it."""
    path = f"{folder(place.environment, place.model)}/release.yaml"
    if (text := git.read(commit, path)) is None:
        fix = f"push kustomize/overlays/{place.environment}/{public(place.model)}, made like another model's"
        raise LoopError(f"{path} is not in {commit[:12]} of origin", fix=fix)
    return parse(text, path)


def land(git: Git, action: Action, branch: str = "main") -> Done:
    """Do an action to what the remote says now, and again whenever somebody else was faster."""
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
    """The files and the message of an action; Rejected were it to touch what people own."""
    place = action.place
    written = files(after, place.environment, place.model)
    guard.check(written, f"{action.name} of {place}")
    why = "; ".join(part for part in (*now.notes, action.why) if part)
    return Change(written, message(action.name, (place.model, place.environment), why, now.state, after))
