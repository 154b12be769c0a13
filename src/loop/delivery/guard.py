"""What a machine may change in Git: checked before its own pushes, in CI, and by a pre-receive hook.

It protects what people own from our machine's mistakes: a release, promotion or retraining that would write
more than its own files. It is no lock against an attacker, who may commit under any address; permissions are.

A commit is our machine's if it has made the commit itself, that is, as committer, and either by
GitHub's address for Actions with a trailer `Action:`, which all our commits have, or by the address that we
had before. Other tools of a fork (formatters, changelogs) commit by Actions' address too, and what a person
merges, squashes or rebases on GitHub has another committer and has been reviewed: neither is our machine's.
"""

from collections.abc import Collection
from pathlib import PurePosixPath

from loop.core import paths
from loop.core.errors import LoopError, Rejected
from loop.core.git import BOT, Git
from loop.core.names import package

OWNED = (
    "kustomize/overlays/*/*/release/release.yaml",
    "kustomize/overlays/*/*/release/kustomization.yaml",
    "dvc.lock",
    "data/*/metrics.json",
    "data/*/logged.json",
)
LOCKS = (  # by themselves only: what `refresh-lock` proposes, and a person merges
    "*.lock",
    "*/*/requirements*.lock",
    "src/models/*/requirements*.lock",
    "tests/*/*.lock",
    "tools/*.lock",
    "src/loop/runtime/uv.lock",
)
BEFORE = "loop-bot@users.noreply.github.com"  # our machine's address in older commits
RETRAINED = "params.yaml"  # a person's, but a retraining writes its window there, together with dvc.lock


def retrained(model: str) -> tuple[str, ...]:
    """The files that a retraining of this model writes, and no other."""
    name = package(model)
    return (RETRAINED, "dvc.lock", f"data/{name}/metrics.json", f"data/{name}/logged.json")


def check(changed: Collection[str], what: str) -> None:
    """Reject a machine's commit that touches anything but machine-owned paths."""
    if changed and all(_fits(path, LOCKS) for path in changed):
        return
    allowed = {RETRAINED} if "dvc.lock" in changed else set()
    if foreign := sorted(path for path in changed if not _fits(path, OWNED) and path not in allowed):
        raise Rejected(
            f"{what} by {BOT['GIT_AUTHOR_NAME']} touches what people own: {', '.join(foreign)}",
            fix=f"a machine writes only {', '.join(OWNED)}, and {RETRAINED} with dvc.lock",
            docs="docs/protection.md#what-may-write",
        )


def check_range(git: Git, base: str, head: str) -> tuple[int, str]:
    """Check every commit of the machine in base..head; returns how many it checked, and of which.

    Rejected too where head tracks outputs of stages, whoever has committed them.

    Where the base is unknown (see `Git.fork_point`) nobody knows what was checked before. Then a clone checks
    the whole history of head, and a server, whose hook has seen all its refs, what none of these has.
    """
    if not head.strip("0"):
        return 0, "none: the branch is deleted"
    if (known := git.commit(head)) is None:
        raise LoopError(f"{head} is no commit here", fix="git fetch, or name another one")
    if git.fork_point(base, known):
        commits, which = [f"{base}..{known}"], f"since {base[:12]}"
    elif git.run("rev-parse", "--is-bare-repository") == "true":
        commits, which = [known, "--not", "--all"], "that no ref here has"
    else:
        commits, which = [known], f"of all history: the base {base[:12] or '(none)'} is unknown here"
    form = "--format=%H %ce %(trailers:key=Action,valueonly,separator=%x20)"
    mine = [line.split()[0] for line in git.run("log", form, *commits, "--").splitlines() if _ours(line)]
    for commit in mine:
        check(touched(git, commit), f"commit {commit[:12]}")
    listed = git.run("ls-tree", "-r", "-z", "--name-only", "--full-tree", known, "data/")
    if error := paths.tracked(listed.split("\0")):
        raise error
    return len(mine), which


def _ours(line: str) -> bool:
    """Whether a line of `log` (commit, committer's address, Action) is of our machine's commit."""
    _, committer, action = line.split(" ", 2)
    return committer == BEFORE or (committer == BOT["GIT_COMMITTER_EMAIL"] and bool(action))


def touched(git: Git, commit: str) -> set[str]:
    """What a commit changes; of a merge only what it changes itself."""
    args = ("--root", "--no-commit-id", "--name-only", "--no-renames", "-r", "-c", "-z")
    return {name for name in git.run("diff-tree", *args, commit).split("\0") if name}


def _fits(path: str, patterns: Collection[str]) -> bool:
    """Whether one pattern fits; `*` is one folder's or file's name, never more."""
    there = PurePosixPath(path)
    return any(len(there.parts) == pattern.count("/") + 1 and there.match(pattern) for pattern in patterns)
