"""Checks out the commit where a pull request began, and restores that commit's DVC outputs."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from loop.core.dvc import DvcError, bring
from loop.core.git import Git, GitError
from loop.core.project import Project

OUTPUTS = ("scores.parquet", "reference.parquet", "plots/importance.json")


@contextmanager
def checkout(root: Path, branch: str) -> Iterator[Path | None]:
    """Yield a temporary checkout of the commit where HEAD left origin's `branch`; None without an origin."""
    git = Git(root)
    if "origin" not in git.run("remote").split():
        yield None
        return
    tip = git.fetch(branch)
    try:
        begin = git.run("merge-base", tip, "HEAD")
    except GitError:  # no common commit: the clone is shallow, or main was force-pushed
        begin = tip
    with git.worktree(begin) as tree:
        if (settings := root / ".dvc" / "config.local").is_file():
            shutil.copy2(settings, tree / ".dvc" / "config.local")
        yield tree


def outputs(theirs: Project) -> None:
    """Restore the base branch's scores, reference and importance, as far as DVC's cache or remote has them.

    Raises Rejected if a file differs from what the base's dvc.lock records.
    """
    for remote in (False, True):
        missing = [name for name in OUTPUTS if not (theirs.data / name).is_file()]
        if not missing or not (theirs.root / "dvc.lock").is_file():
            break
        with suppress(DvcError):  # the files that exist were restored; the report leaves out the others
            bring(theirs, *missing, remote=remote)
