"""Promotes a canary by one step; the caller names the current step, and the code computes the next one."""

from loop.core import params
from loop.core.errors import Superseded
from loop.core.git import Git
from loop.core.release_state import State
from loop.delivery import commit, steps
from loop.delivery.commit import Action, Done, Now, Place


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

    def change(now: Now) -> State:
        return steps.promoted(now.state, key, step, rules(git, now, place.model))

    return commit.land(git, Action("promote", place, change, why))


def rules(git: Git, now: Now, model: str) -> params.Canary:
    """Return a model's canary settings from the params.yaml of a commit."""
    where = f"params.yaml of {now.commit[:12]}"
    models = params.sections(git.read(now.commit, "params.yaml") or "", where)
    return params.typed(models, model, where).canary
