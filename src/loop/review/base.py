"""What the base branch had: the commit where the change began, and what DVC kept of its stages."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from loop.core.dvc import DvcError, bring
from loop.core.git import Git, GitError
from loop.core.paths import ModelPaths

OUTPUTS = ("scores.parquet", "reference.parquet", "plots/importance.json")


@contextmanager
def checkout(root: Path, branch: str) -> Iterator[Path | None]:
    """A scratch checkout of the commit where HEAD left origin's `branch`; None where there is no origin."""
    git = Git(root)
    if "origin" not in git.run("remote").split():
        yield None
        return
    tip = git.fetch(branch)
    try:
        begin = git.run("merge-base", tip, "HEAD")
    except GitError:  # a shallow clone, or a history that was replaced
        begin = tip
    with git.worktree(begin) as tree:
        if (settings := root / ".dvc" / "config.local").is_file():
            shutil.copy2(settings, tree / ".dvc" / "config.local")
        yield tree


def outputs(tree: Path, model: str) -> ModelPaths:
    """Bring a model's scores, reference and importance there, as far as cache or remote have them.

    Rejected where one is not what the base branch's dvc.lock records.
    """
    paths = ModelPaths(tree, model)
    for remote in (False, True):
        missing = [name for name in OUTPUTS if not (paths.data / name).is_file()]
        if not missing or not (tree / "dvc.lock").is_file():
            break
        with suppress(DvcError):  # what it has, it has brought; the report does without the rest
            bring(tree, model, *missing, remote=remote)
    return paths
