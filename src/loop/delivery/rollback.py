"""Rolls back a canary, or returns stable to an earlier release, and blocks the release that is taken away."""

from loop.core.git import Git
from loop.core.release_state import State
from loop.delivery import commit, history, steps
from loop.delivery.commit import Action, Done, Now, Place


def rollback(git: Git, place: Place, why: str, key: str | None = None, *, bar: bool = True) -> Done:
    """Remove the canary, whatever its step. Without a canary, or if `key` is blocked already, commit nothing.

    With `bar` the canary's release is blocked for good; without it the release may be proposed again, for
    instance because it was removed for lack of evidence. A promotion that was committed first is undone too.
    """
    action = Action("rollback", place, lambda now: steps.rolled_back(now.state, why, key, bar=bar), why)
    return commit.land(git, action)


def restore(git: Git, place: Place, to: str, why: str, key: str | None = None) -> Done:
    """Set stable back to release `to`, which it served before; no commit if stable serves it now.

    There is no gate and no canary: the release passed them when it was first served, and the rollback is
    urgent because the release that stable serves now is causing harm.
    """

    def change(now: Now) -> State | None:
        return steps.restored(now.state, history.served(git, place, to, now), why, key)

    return commit.land(git, Action("rollback", place, change, why))
