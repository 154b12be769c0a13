"""Proposing an upgrade: its branch at origin, and the branch's one pull request."""

import re

from loop.core.errors import LoopError, Rejected
from loop.core.git import BOT, Git, GitError
from loop.core.github import GitHub
from loop.core.markdown import inert
from loop.delivery.proposal import opened

BRANCH = "upgrade"  # the workflow's at origin, so that a newer release takes the place of one that waits
REFUSED = re.compile(r"refusing to allow .+ workflow")  # GitHub, to a token without the scope `workflow`


def propose(git: Git, github: GitHub, branch: str, to: str) -> str:
    """Push a branch that `loop upgrade` has made as `to`, and open its pull request or bring it up to date.

    Returns in words where it is proposed. A branch there that a person has committed to stays as it is.
    Rejected where the branch is not one commit on top of main, LoopError where the token may not push it.
    """
    commit, main = git.run("rev-parse", "--verify", f"refs/heads/{branch}"), git.fetch()
    parents = git.run("log", "-1", "--format=%P", commit).split()
    if len(parents) != 1 or not git.descends(main, parents[0]):
        raise Rejected(f"{branch} is not one commit on top of main", fix="./loop upgrade makes it again")
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
                "the branch yourself: ./loop upgrade makes it on your machine",
            ) from error
    title, _, body = git.run("log", "-1", "--format=%B", commit).partition("\n\n")
    number = opened(github, to, title, "\n".join(map(inert, body.splitlines())))
    return f"pull request #{number}" if number else f"branch {to}"


def _kept(git: Git, to: str, main: str) -> str:
    """Why origin's branch is not replaced; empty where only a machine has committed to it, or main has it."""
    tip = git.fetch(to)
    author = git.run("log", "-1", "--format=%ae", tip)
    if author == BOT["GIT_AUTHOR_EMAIL"] or git.descends(main, tip):
        return ""
    return f"branch {to} stays: {author} has committed to it; merge it or delete it, and run this again"
