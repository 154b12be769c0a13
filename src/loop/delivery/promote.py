"""One step of a canary: what is expected is said, what comes next is computed."""

from loop.core import params
from loop.core.git import Git
from loop.delivery import commit, steps
from loop.delivery.commit import Action, Done, Now, Place
from loop.delivery.state import State


def promote(git: Git, place: Place, key: str, step: str, why: str = "") -> Done:
    """Take canary `key` from `step` to the next one; Superseded where it is not (any more) there.

    The weights and the pods are those of main's params.yaml, whatever the work tree has.
    """

    def change(now: Now) -> State:
        return steps.promoted(now.state, key, step, rules(git, now, place.model))

    return commit.land(git, Action("promote", place, change, why))


def rules(git: Git, now: Now, model: str) -> params.Canary:
    """The rules of a model's canaries in the params.yaml of a commit."""
    where = f"params.yaml of {now.commit[:12]}"
    models = params.sections(git.read(now.commit, "params.yaml") or "", where)
    return params.typed(models, model, where).canary
