"""Promotes a canary by one step, rolls it back, or returns stable to an earlier release: one commit each."""

from loop.core import params
from loop.core.errors import LoopError, Superseded
from loop.core.git import Git
from loop.core.names import public
from loop.core.release_state import State, Track, file, recall
from loop.delivery import commit, steps
from loop.delivery.commit import Done, Now, Place


def promote(git: Git, place: Place, key: str | None, step: str, why: str = "") -> Done:
    """Move canary `key` from `step` to the next step.

    Weights and pod counts come from params.yaml on main, not from the work tree. Without `key`,
    the canary on main is promoted. Its key is read only once, so that a retry after a lost push never
    promotes another canary. Raises Superseded if the canary is not, or no longer, at `step`.
    """
    if key is None:
        state = commit.read(git, git.fetch(), place)
        if state.canary is None:
            raise Superseded(f"expected a canary at step {step}, found {steps.described(state)}")
        key = state.canary.key

    def decide(now: Now) -> State:
        return steps.promoted(now.state, key, step, rules(git, now, place.model))

    return commit.land(git, "promote", place, decide, why)


def rules(git: Git, now: Now, model: str) -> params.Canary:
    """Return a model's canary settings from the params.yaml of a commit."""
    where = f"params.yaml of {now.commit[:12]}"
    return params.typed(git.read(now.commit, "params.yaml") or "", model, where).canary


def rollback(git: Git, place: Place, why: str, key: str | None = None, *, bar: bool = True) -> Done:
    """Remove the canary, whatever its step. Without a canary, or if `key` is blocked already, commit nothing.

    With `bar` the canary's release is blocked for good; without it the release may be proposed again, for
    instance because it was removed for lack of evidence. A promotion that was committed first is undone too.
    """
    return commit.land(
        git, "rollback", place, lambda now: steps.rolled_back(now.state, why, key, bar=bar), why
    )


def restore(git: Git, place: Place, to: str, why: str, key: str | None = None) -> Done:
    """Set stable back to release `to`, which it served before; no commit if stable serves it now.

    There is no gate and no canary: the release passed them when it was first served, and the rollback is
    urgent because the release that stable serves now is causing harm.
    """

    def decide(now: Now) -> State | None:
        return steps.restored(now.state, _served(git, place, to, now), why, key)

    return commit.land(git, "rollback", place, decide, why)


def _served(git: Git, place: Place, key: str, now: Now) -> Track:
    """Return release `key` as stable last served it, from main's history.

    A state that cannot be read, for instance in an older format, is skipped and noted in `now`. Raises
    LoopError if stable has never served the release.
    """
    for entry in commit.history(git, place, now.commit):
        try:
            found = recall(git.read(entry.commit, file(place.environment, place.model)) or "", "stable", key)
        except LoopError as error:
            now.notes.append(f"skipped the release state of {entry.commit[:12]}: {error}")
            continue
        if found:
            return found
    fix = f"./loop history {public(place.model)} --environment {place.environment}"
    said = "; ".join([f"{place}: stable has never served {key}", *now.notes])
    raise LoopError(said, fix=fix, docs="docs/runbooks/production.md#bring-an-older-release-back")
