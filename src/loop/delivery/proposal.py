"""Proposes a commit to main: pushes the bot's branch, opens its pull request, and starts its CI."""

import os
from pathlib import Path

import click

from loop.core import actions
from loop.core.errors import Rejected
from loop.core.files import plain_files
from loop.core.git import BOT, Change, Git
from loop.core.github import FORBIDDEN, GitHub, GitHubError
from loop.core.markdown import inert, quiet

# A part of GitHub's error "GitHub Actions is not permitted to create or approve pull requests."
WORDS = "not permitted to create"
LOCKS = "refresh-lock"  # the branch of updated locks


def pushed(git: Git, branch: str) -> str:
    """Fetch origin's branch and return its tip, which `push` may then replace; empty if origin lacks it."""
    return git.fetch(branch) if git.listed(branch) else ""


def push(git: Git, commit: str, branch: str, there: str) -> None:
    """Push one commit on top of main as origin's branch, unless `there` has the same files and parent.

    Raises PushRaced if the branch is no longer at `there`, because its new commits may be a person's.
    """
    parts = ("log", "-1", "--format=%T %P")
    if not there or git.run(*parts, there) != git.run(*parts, commit):
        git.push(commit, branch, replaces=there)


def opened(github: GitHub, branch: str, title: str, body: str) -> int | None:
    """Open a pull request and return its number; None if GitHub does not let workflows open one.

    GitHub forbids it until a person allows it in the repository's settings. That is not an error: the branch
    is pushed, and a warning shows the link where a person can open the pull request.
    """
    try:
        return int(github.pull_request(branch, title, body)["number"])
    except GitHubError as error:
        if error.status != FORBIDDEN or WORDS not in str(error):
            raise
    server = os.environ.get("GITHUB_SERVER_URL", "https://github.com")
    link = f"{server}/{github.repository}/compare/main...{branch}?expand=1"
    setting = "Settings → Actions → General → Allow GitHub Actions to create and approve pull requests"
    actions.warning("No pull request", f"workflows may not open one. Open it yourself: {link} ({setting})")
    return None


def tested(github: GitHub, branch: str) -> None:
    """Start ci.yml on a branch, because GitHub starts no workflow for a push with a workflow's token."""
    run = github.dispatch("ci.yml", {}, ref=branch)
    click.echo(f"{branch}: dispatched ci.yml: {run.url}", err=True)


def locks(root: Path, github: GitHub, reason: str) -> str | None:
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
    files = {path: (root / path).read_text(encoding="utf-8") for path in changed}
    told = f"Refresh the locks\n\nAction: refresh-lock\nWhy: {quiet(reason)}\n"
    push(git, git.commit_on(git.fetch(), Change(files, told)), LOCKS, pushed(git, LOCKS))
    body = f"By {BOT['GIT_AUTHOR_NAME']}: {inert(reason)}. It changes {len(files)} locks; CI tests them."
    number = opened(github, LOCKS, "Refresh the locks", body)
    tested(github, LOCKS)
    return f"pull request #{number}" if number else f"branch {LOCKS}"
