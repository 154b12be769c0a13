"""Take a release out and bar it: a canary, or what stable serves where an earlier one is to come back."""

from loop.core.git import Git
from loop.delivery import commit, history, steps
from loop.delivery.commit import Action, Done, Now, Place
from loop.delivery.state import State


def rollback(git: Git, place: Place, why: str, key: str | None = None, *, bar: bool = True) -> Done:
    """Roll back the canary at whatever step it is; nothing where none is, or `key` is barred already.

    Without `bar` its release may come again, as nothing bad is known of it.

    It waits for nothing: a promotion that was faster is undone too.
    """

    def change(now: Now) -> State | None:
        return steps.rolled_back(now.state, why, key, bar=bar)

    return commit.land(git, Action("rollback", place, change, why))


def restore(git: Git, place: Place, to: str, why: str, key: str | None = None) -> Done:
    """Set stable to release `to`, which it served before; nothing where it serves it.

    Neither gate nor canary: it was judged when it came, and what it replaces hurts now.
    """

    def change(now: Now) -> State | None:
        return steps.restored(now.state, history.served(git, place, to, now), why, key)

    return commit.land(git, Action("rollback", place, change, why))
