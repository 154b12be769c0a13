"""Checks the branch that `loop upgrade` made, pushes it, and opens or updates its pull request."""

import os
import re
import subprocess
import tempfile
from pathlib import Path

import click

from loop.candidate.champion import WORKFLOW
from loop.core.errors import LoopError, Rejected
from loop.core.git import BOT, Git, GitError
from loop.core.github import GitHub
from loop.core.markdown import inert
from loop.delivery.proposal import opened, push, pushed

CHECKS = (
    ("./loop", "doctor"),
    ("./loop", "render", "--check"),
    ("make", "lint"),
    ("make", "test-marked", "MARKS=contract or params"),
)
BRANCH = "upgrade"  # the workflow's branch; a newer release replaces the older one there
REFUSED = re.compile(r"refusing to allow .+ workflow")  # GitHub's error for tokens without `workflow`


def check(git: Git, branch: str) -> list[str]:
    """Run every check with the branch's own code and locks, and return what failed.

    They run in a temporary clone, so they cannot change this repository's refs, settings or hooks.
    """
    failed = []
    outer = {name: value for name, value in os.environ.items() if name not in WORKFLOW}
    with tempfile.TemporaryDirectory(prefix="loop-upgrade-") as folder:
        git.run("clone", "--quiet", "--shared", "--branch", branch, ".", folder)
        clone = Git(Path(folder))
        if "origin" in git.run("remote").split():
            clone.run("remote", "set-url", "origin", git.run("remote", "get-url", "origin"))
        else:
            clone.run("remote", "remove", "origin")
        git.share_settings(clone.root)
        for words in CHECKS:
            command = " ".join(words)
            click.echo(f"{command} on {branch}")
            done = subprocess.run(words, cwd=folder, env=outer, stdin=subprocess.DEVNULL, check=False)
            click.echo(f"{'failed' if done.returncode else 'ok':17}  {command}")
            if done.returncode:
                failed.append(command)
    return failed


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
    if there := pushed(git, to):
        author = git.run("log", "-1", "--format=%ae", there)
        if author != BOT["GIT_AUTHOR_EMAIL"] and not git.descends(main, there):
            why = f"because {author} committed to it; merge or delete it and run again"
            return f"branch {to} is not replaced, {why}"
    try:
        push(git, commit, to, there)
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
