"""Checks a branch that `loop upgrade` made, in a temporary clone, so that this clone's files stay."""

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import click
from rich.console import Console

from loop.candidate.champion import WORKFLOW
from loop.core.git import Git

CHECKS = (
    ("./loop", "doctor"),
    ("./loop", "render", "--check"),
    ("make", "lint"),
    ("make", "test-marked", "MARKS=contract or params"),
)
SHOWN = 30  # last lines of what a failed check printed
LOCAL = ".dvc/config.local"  # a user's own DVC settings, which are not in Git


def run(git: Git, branch: str) -> list[str]:
    """Run every check with the branch's own code and locks, print the results, and return what failed."""
    console, failed = Console(stderr=True), []
    outer = {name: value for name, value in os.environ.items() if name not in WORKFLOW}
    with tempfile.TemporaryDirectory(prefix="loop-upgrade-") as folder:
        git.run("clone", "--quiet", "--shared", "--branch", branch, ".", folder)
        clone = Git(Path(folder))
        if "origin" in git.run("remote").split():
            clone.run("remote", "set-url", "origin", git.run("remote", "get-url", "origin"))
        else:
            clone.run("remote", "remove", "origin")
        if (git.root / LOCAL).is_file():
            shutil.copy(git.root / LOCAL, clone.root / LOCAL)
        for words in CHECKS:
            command, begun = " ".join(words), time.monotonic()
            with console.status(f"{command} on {branch}"):
                done = subprocess.run(
                    words,
                    cwd=folder,
                    env=outer,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    check=False,
                )
            took = time.monotonic() - begun
            click.echo(f"{'failed' if done.returncode else 'ok':17}  {command}  ({took:.0f} s)")
            if done.returncode:
                click.echo("\n".join(f"  {line}" for line in done.stdout.splitlines()[-SHOWN:]))
                failed.append(command)
    return failed
