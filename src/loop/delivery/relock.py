"""Proposing new locks: a branch with nothing but locks, and its one pull request."""

from pathlib import Path

import click

from loop.core.errors import Rejected
from loop.core.files import plain_files
from loop.core.git import BOT, Change, Git
from loop.core.github import GitHub
from loop.core.markdown import inert, quiet
from loop.delivery.proposal import opened

BRANCH = "refresh-lock"


def propose(root: Path, github: GitHub, reason: str) -> str | None:
    """Push the work tree's locks as branch `refresh-lock` and open its pull request.

    Returns where they are proposed, in words; None where no lock has moved.

    Rejected where anything else has changed, LoopError where a lock is now a link: what it points to would
    be published. CI is dispatched, because a push by a run's token starts none.
    """
    git = Git(root)
    changed = [line[3:] for line in git.run("status", "--porcelain", "-uno").splitlines()]
    if foreign := [path for path in changed if not path.endswith(".lock")]:
        raise Rejected(f"more than locks has changed: {', '.join(foreign)}", fix="commit that first")
    if not changed:
        return None
    if len(plain_files(root, *changed)) < len(changed):
        raise Rejected("a lock was removed", fix="git checkout -- '*.lock'; make lock")
    why = quiet(reason)
    files = {path: (root / path).read_text(encoding="utf-8") for path in changed}
    told = f"Refresh the locks\n\nAction: refresh-lock\nWhy: {why}\n"
    commit = git.commit_on(git.fetch(), Change(files, told))
    git.push(commit, BRANCH, replaces=git.listed(BRANCH))
    body = f"By {BOT['GIT_AUTHOR_NAME']}: {inert(reason)}. {len(files)} locks move; CI tests them."
    number = opened(github, BRANCH, "Refresh the locks", body)
    run = github.dispatch("ci.yml", {}, ref=BRANCH)
    click.echo(f"{BRANCH}: dispatched ci.yml{f': {run.url}' if run else ''}", err=True)
    return f"pull request #{number}" if number else f"branch {BRANCH}"
