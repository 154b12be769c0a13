"""Proposes an upgrade: pushes its branch to origin and opens or updates the branch's pull request."""

import re

from loop.core.errors import LoopError, Rejected
from loop.core.git import BOT, Git, GitError
from loop.core.github import GitHub
from loop.core.markdown import inert
from loop.delivery.proposal import opened

BRANCH = "upgrade"  # the workflow's branch; a newer release replaces the older one there
REFUSED = re.compile(r"refusing to allow .+ workflow")  # GitHub's error for tokens without `workflow`


def propose(git: Git, github: GitHub, branch: str, to: str) -> str:
    """Push the branch that `loop upgrade` made to origin as `to`, and open or update its pull request.

    Returns a text that names the pull request or the branch. If a person has committed to origin's branch,
    it is not replaced. Raises Rejected if `branch` is not one commit on top of main, and LoopError if the
    token may not push it.
    """
    commit, main = git.run("rev-parse", "--verify", f"refs/heads/{branch}"), git.fetch()
    parents = git.run("log", "-1", "--format=%P", commit).split()
    if len(parents) != 1 or not git.descends(main, parents[0]):
        fix = "create the branch again: ./loop upgrade"
        raise Rejected(f"{branch} is not one commit on top of main", fix=fix)
    there = git.listed(to)
    if there and (kept := _kept(git, to, main)):
        return kept
    if not there or git.run("rev-parse", f"{there}^{{tree}}", f"{there}^") != git.run(
        "rev-parse", f"{commit}^{{tree}}", f"{commit}^"
    ):
        try:
            git.push(commit, to, replaces=there)
        except GitError as error:
            if not REFUSED.search(str(error)):
                raise
            raise LoopError(
                f"{branch} changes files below .github/workflows, which this token may not push",
                fix="give the deploy key PUSH_KEY to the environment main-only (docs/protection.md), or push "
                "the branch yourself: ./loop upgrade creates it on your machine",
            ) from error
    title, _, body = git.run("log", "-1", "--format=%B", commit).partition("\n\n")
    number = opened(github, to, title, "\n".join(map(inert, body.splitlines())))
    return f"pull request #{number}" if number else f"branch {to}"


def _kept(git: Git, to: str, main: str) -> str:
    """Return why origin's branch `to` must stay; empty if its tip is the bot's or is on main already."""
    tip = git.fetch(to)
    author = git.run("log", "-1", "--format=%ae", tip)
    if author == BOT["GIT_AUTHOR_EMAIL"] or git.descends(main, tip):
        return ""
    return f"branch {to} is not replaced, because {author} committed to it; merge or delete it and run again"
