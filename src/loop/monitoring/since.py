"""When a canary and its step began: Git's log knows, so that no judge has to remember."""

from dataclasses import dataclass

from loop.core.errors import LoopError
from loop.core.git import Git
from loop.delivery import commit as commits
from loop.delivery.commit import Place
from loop.delivery.state import folder, recall


@dataclass(frozen=True)
class Since:
    """Unix times, by the clock of whoever committed."""

    canary: float  # it was released
    step: float  # it came to the step it is at


def since(git: Git, commit: str, place: Place) -> Since:
    """When the canary that `commit` has was released, and when its step began.

    Along main alone: a merged branch's commit counts from its merge. LoopError where there is no canary.
    """
    path = f"{folder(place.environment, place.model)}/release.yaml"
    lines = git.run("log", "--first-parent", "--format=%H %ct", commit, "--", path).splitlines()
    canary = commits.read(git, commit, place).canary
    if canary is None:
        raise LoopError(f"{path}: no canary in {commit[:12]}")
    times: list[float] = []
    for line in lines:
        changed, time = line.split()
        try:
            before = recall(git.read(changed, path) or "", "canary", canary.key)
        except LoopError:  # deleted, or of another format: it was not this canary's
            break
        if before is None:
            break
        times.append(float(time))
    return Since(canary=times[-1], step=times[0])
