"""Finds in Git's history when a canary and its current step began, so that the judge need not remember it."""

from dataclasses import dataclass

from loop.core.errors import LoopError
from loop.core.git import Git
from loop.core.release_state import file, recall
from loop.delivery.commit import Place, read


@dataclass(frozen=True)
class Since:
    """When a canary was released and when its step began: Unix times by the committers' clocks."""

    canary: float  # Unix time at which the canary was released
    step: float  # Unix time at which the canary's current step began


def since(git: Git, commit: str, place: Place) -> Since:
    """Return when the canary in `commit` was released, and when its current step began.

    Only main's first-parent line is read, so a merged branch counts from its merge. Raises LoopError if the
    commit has no canary.
    """
    path = file(place.environment, place.model)
    lines = git.run("log", "--first-parent", "--format=%H %ct", commit, "--", path).splitlines()
    canary = read(git, commit, place).canary
    if canary is None:
        raise LoopError(f"{path}: no canary in {commit[:12]}")
    times: list[float] = []
    for line in lines:
        changed, time = line.split()
        try:
            before = recall(git.read(changed, path) or "", "canary", canary.key)
        except LoopError:  # release.yaml was deleted or older, so this commit is before the canary
            break
        if before is None:
            break
        times.append(float(time))
    return Since(canary=times[-1], step=times[0])
