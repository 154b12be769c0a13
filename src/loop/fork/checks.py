"""Checks a branch that `loop upgrade` made, in a temporary clone, so that this clone's files stay."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from loop.candidate.champion import WORKFLOW
from loop.core.git import Git

CHECKS = (
    ("./loop", "doctor"),
    ("./loop", "render", "--check"),
    ("make", "lint"),
    ("make", "test-marked", "MARKS=contract or params"),
)
LOCAL = ".dvc/config.local"  # a user's own DVC settings, which are not in Git


@dataclass(frozen=True)
class Check:
    """The result of a command that ran on the branch; `said` is its output."""

    command: str
    passed: bool
    seconds: float
    said: str


def run(git: Git, branch: str, during: Callable[[str], AbstractContextManager[object]]) -> Iterator[Check]:
    """Run every check with the branch's own code and locks, and yield its result.

    `during` returns a context manager for a command; it is entered while the command runs.
    """
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
            with during(command):
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
            yield Check(command, done.returncode == 0, time.monotonic() - begun, done.stdout)
