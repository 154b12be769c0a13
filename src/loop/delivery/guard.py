"""What a machine may change in Git: held before its own pushes, in CI, and by a pre-receive hook."""

from collections.abc import Collection
from pathlib import PurePosixPath

from loop.core.errors import Rejected
from loop.core.git import BOT, Git

OWNED = (
    "kustomize/overlays/*/*/release/release.yaml",
    "kustomize/overlays/*/*/release/kustomization.yaml",
    "dvc.lock",
    "data/*/metrics.json",
)
LOCKS = (  # by themselves only: what `refresh-lock` proposes, and a person merges
    "*.lock",
    "*/*/requirements.lock",
    "tools/*.lock",
    "src/loop/serving/packed/uv.lock",
)
RETRAINED = "params.yaml"  # a person's, but a retraining writes its window there, together with dvc.lock


def check(paths: Collection[str], what: str) -> None:
    """Reject a machine's commit that touches anything but machine-owned paths."""
    if paths and all(_fits(path, LOCKS) for path in paths):
        return
    allowed = {RETRAINED} if "dvc.lock" in paths else set()
    if foreign := sorted(path for path in paths if not _fits(path, OWNED) and path not in allowed):
        raise Rejected(
            f"{what} by {BOT['GIT_AUTHOR_NAME']} touches what people own: {', '.join(foreign)}",
            fix=f"a machine writes only {', '.join(OWNED)}, and {RETRAINED} with dvc.lock",
        )


def check_range(git: Git, base: str, head: str) -> int:
    """Check every commit of the machine in base..head; returns how many it checked.

    `base` of only zeros is a new branch: then all commits count that no other branch has.
    """
    commits = [head, "--not", "--all"] if not base.strip("0") else [f"{base}..{head}"]
    listed = git.run("log", "--format=%H %ae %ce", *commits, "--").splitlines()
    mine = [line.split()[0] for line in listed if BOT["GIT_AUTHOR_EMAIL"] in line.split()[1:]]
    for commit in mine:
        check(_touched(git, commit), f"commit {commit[:12]}")
    return len(mine)


def _touched(git: Git, commit: str) -> set[str]:
    """What a commit changes; of a merge only what it changes itself."""
    args = ("--root", "--no-commit-id", "--name-only", "--no-renames", "-r", "-c", "-z")
    return {name for name in git.run("diff-tree", *args, commit).split("\0") if name}


def _fits(path: str, patterns: Collection[str]) -> bool:
    """Whether one pattern fits; `*` is one folder's or file's name, never more."""
    there = PurePosixPath(path)
    return any(len(there.parts) == pattern.count("/") + 1 and there.match(pattern) for pattern in patterns)
