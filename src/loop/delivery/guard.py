"""Limits the files that the bot may commit; checked before its pushes, and in CI.

The guard catches bugs of the bot, for instance a promotion that edits a file owned by people. It does not
stop an attacker, who can commit under any address; that is the job of the repository's permissions.

A commit counts as the bot's if its committer is GitHub's address for Actions and it has an `Action:` trailer,
because other tools of a fork, such as formatters, commit with that address too. Commits that a person merges,
squashes or rebases on GitHub have another committer and were reviewed, so the guard does not check them.
"""

from collections.abc import Collection

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
RETRAINED = "params.yaml"  # people own params.yaml, but a retraining writes its window there


def retrained(model: str) -> tuple[str, ...]:
    """Return the only files that a retraining of this model may write."""
    name = package(model)
    return (RETRAINED, "dvc.lock", f"data/{name}/metrics.json", f"data/{name}/logged.json")


def check(changed: Collection[str], what: str) -> None:
    """Raise Rejected if a commit of the bot changes a file that the bot does not own.

    Lock files are allowed only in a commit of nothing else, which `refresh-lock` proposes.
    """
    if changed and all(path.endswith(".lock") for path in changed):
        return
    allowed = paths.matching([*OWNED, RETRAINED] if "dvc.lock" in changed else OWNED)
    if foreign := sorted(path for path in changed if not allowed.fullmatch(path)):
        raise Rejected(
            f"{what} by {BOT['GIT_AUTHOR_NAME']} changes files owned by people: {', '.join(foreign)}",
            fix=f"the bot may only write {', '.join(OWNED)}, and {RETRAINED} together with dvc.lock",
            docs="docs/protection.md#what-may-write",
        )


def check_range(git: Git, base: str, head: str) -> tuple[int, str]:
    """Check each of the bot's commits in base..head; returns their number, and a text that says the range.

    If the base is unknown (see `Git.fork_point`), it checks the whole history of head. Raises Rejected if a
    commit changes a file that the bot does not own, or if head tracks outputs of DVC stages.
    """
    if (known := git.commit(head)) is None:
        raise LoopError(f"commit {head} does not exist in this clone", fix="git fetch, or name another one")
    commits, which = known, f"of the whole history, because base {base[:12] or '(none)'} is unknown"
    if git.fork_point(base, known):
        commits, which = f"{base}..{known}", f"since {base[:12]}"
    form = "--format=%H %ce %(trailers:key=Action,valueonly,separator=%x20)"
    lines = [line.split(" ", 2) for line in git.run("log", form, commits, "--").splitlines()]
    mine = [commit for commit, email, action in lines if email == BOT["GIT_COMMITTER_EMAIL"] and action]
    for commit in mine:
        check(touched(git, commit), f"commit {commit[:12]}")
    listed = git.run("ls-tree", "-r", "-z", "--name-only", "--full-tree", known, "data/")
    if error := paths.tracked(listed.split("\0")):
        raise error
    return len(mine), which


def merged(git: Git, name: str) -> str:
    """Return the full SHA of a branch of origin, a tag or a (short) SHA, if main contains that commit.

    Raises LoopError if the name matches no commit, and Rejected if main does not contain the commit.
    """
    main = git.fetch()
    # Ask origin for the branch, because a checkout in CI resets origin/<branch> to the event's older commit.
    is_branch = name and git.listed(name)
    commit = git.fetch(name) if is_branch else git.commit(name)
    if commit is None:
        raise LoopError(f"{name!r} is not a branch, tag or commit here", fix="give the SHA of a main commit")
    if not git.descends(main, commit):
        raise Rejected(f"main has not merged {name} ({commit[:12]})", fix="merge its pull request first")
    return commit


def touched(git: Git, commit: str) -> set[str]:
    """Return the paths that a commit changes; for a merge, only those that differ from both parents."""
    args = ("--root", "--no-commit-id", "--name-only", "--no-renames", "-r", "-c", "-z")
    return {name for name in git.run("diff-tree", *args, commit).split("\0") if name}
