"""One step of a canary: what is expected is said, what comes next is computed."""

from functools import partial

from loop.core import params
from loop.core.git import Git
from loop.delivery import commit, steps
from loop.delivery.commit import Action, Done, Place


def promote(git: Git, place: Place, key: str, step: str, why: str = "") -> Done:
    """Take canary `key` from `step` to the next one; Superseded where it is not (any more) there."""
    weights = params.load(git.root, place.model).canary.weights
    change = partial(steps.promoted, key=key, step=step, weights=weights)
    return commit.land(git, Action("promote", place, change, why))
