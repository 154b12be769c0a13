"""Proposes updated lock files in one pull request that changes nothing else."""

from pathlib import Path

from loop.core.errors import Rejected
from loop.core.files import plain_files
from loop.core.git import BOT, Change, Git
from loop.core.github import GitHub
from loop.core.markdown import inert, quiet
from loop.delivery.proposal import opened, tested

BRANCH = "refresh-lock"


def propose(root: Path, github: GitHub, reason: str) -> str | None:
    """Push the work tree's changed lock files to branch `refresh-lock` and open its pull request.

    Returns "pull request #N" or "branch refresh-lock"; None if no lock file changed. Raises Rejected if any
    other file changed or a lock file was deleted, and LoopError if a lock file is a symbolic link, because
    the link's target would be published.
    """
    git = Git(root)
    changed = [line[3:] for line in git.run("status", "--porcelain", "-uno").splitlines()]
    if foreign := [path for path in changed if not path.endswith(".lock")]:
        raise Rejected(f"files other than locks changed: {', '.join(foreign)}", fix="commit them first")
    if not changed:
        return None
    if len(plain_files(root, *changed)) < len(changed):
        raise Rejected("a lock was removed", fix="git checkout -- '*.lock'; make lock")
    why = quiet(reason)
    files = {path: (root / path).read_text(encoding="utf-8") for path in changed}
    told = f"Refresh the locks\n\nAction: refresh-lock\nWhy: {why}\n"
    commit = git.commit_on(git.fetch(), Change(files, told))
    git.push(commit, BRANCH, replaces=git.listed(BRANCH))
    body = f"By {BOT['GIT_AUTHOR_NAME']}: {inert(reason)}. It changes {len(files)} locks; CI tests them."
    number = opened(github, BRANCH, "Refresh the locks", body)
    tested(github, BRANCH)
    return f"pull request #{number}" if number else f"branch {BRANCH}"
