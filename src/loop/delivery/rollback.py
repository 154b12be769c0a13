"""Take a canary out and bar it. It waits for nothing: a promotion that was faster is undone too."""

from functools import partial

from loop.core.git import Git
from loop.delivery import commit, steps
from loop.delivery.commit import Action, Done, Place


def rollback(git: Git, place: Place, why: str, key: str | None = None) -> Done:
    """Roll back the canary at whatever step it is; nothing where none is, or `key` is barred already."""
    change = partial(steps.rolled_back, why=why, key=key)
    return commit.land(git, Action("rollback", place, change, why))
