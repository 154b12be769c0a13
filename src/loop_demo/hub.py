"""Starts the stand-in for GitHub, acts there as a person would, and waits for workflow runs to end."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Self

from loop.core.errors import LoopError
from loop.core.github import GitHub

REPOSITORY = "acme/demo"


def launched(
    options: Sequence[str], log: BinaryIO, environment: Mapping[str, str], **process: Any
) -> tuple["subprocess.Popen[bytes]", dict[str, Any]]:
    """Start the stand-in; return its process and what it prints when ready. LoopError if it fails."""
    started = subprocess.Popen(
        [sys.executable, "-m", "loop_demo.github", *options],
        stdout=subprocess.PIPE,
        stderr=log,
        env={**os.environ, **environment},
        **process,
    )
    ready = json.loads(started.stdout.readline() or "null")  # type: ignore[union-attr]
    if ready is None:
        raise LoopError("the stand-in for GitHub did not start", fix=f"read {log.name}")
    return started, ready


@dataclass
class Hub:
    """A running stand-in for GitHub. `person` calls its API as a person does, `bot` as a workflow does."""

    folder: Path
    variables: Mapping[str, str]  # of the repository
    options: Sequence[str] = ()  # of the stand-in
    environment: Mapping[str, str] = field(default_factory=dict)  # of the runs

    def __enter__(self) -> Self:
        options = ["--root", str(self.folder), "--with-stdin", "--repository", REPOSITORY, *self.options]
        options += [f"--var={name}={value}" for name, value in self.variables.items()]
        with (self.folder.parent / "github.log").open("wb") as log:
            self.process, ready = launched(options, log, self.environment, stdin=subprocess.PIPE)
        self.url = ready["repositories"][REPOSITORY]  # the clone URL, without a token
        self.clone_url = self.url.replace("//", f"//person:{ready['token']}@")
        self.bare = self.folder / "repositories" / f"{REPOSITORY}.git"
        self.person = GitHub(ready["url"], REPOSITORY, ready["token"])
        self.bot = GitHub(ready["url"], REPOSITORY, ready["bot_token"])
        return self

    def __exit__(self, *exception: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def runs(self, workflow: str) -> set[int]:
        """Return the ids of all runs of a workflow, whatever their state."""
        return {run["id"] for run in self.person.runs(workflow)}

    def log(self, run: Mapping[str, Any]) -> str:
        """Return the log of a run so far."""
        log = self.folder / "runs" / str(run["id"]) / "log.txt"
        return log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""

    def merge(self, number: int) -> None:
        """Squash and merge a pull request."""
        self.person.call("PUT", f"/pulls/{number}/merge", json={"merge_method": "squash"})

    def report(self, number: int, seconds: float = 120) -> str:
        """Wait until report.yml has posted a pull request's report, and return its text."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if found := self.person.call("GET", f"/issues/{number}/comments"):
                return str(found[-1]["body"])
            time.sleep(0.3)
        raise LoopError(f"#{number} has no report after {seconds:.0f} s", fix=f"see {self.folder}/runs")
