"""The demo's hold on the stand-in for GitHub: what people do there, and waiting for the runs they start."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import httpx

from loop.core.errors import LoopError
from loop.core.github import GitHub

REPOSITORY = "acme/demo"
STEP = re.compile(r"^\[[^/\]]+/(.+?) *\] ⭐ Run Main (?!actions/|\./)(.+)$", re.MULTILINE)  # as act tells it


class Hub:
    """The stand-in, running; `person` opens and merges pull requests, `bot` is what workflows are."""

    def __init__(
        self,
        folder: Path,
        environment: Mapping[str, str],
        variables: Mapping[str, str],
        options: Sequence[str] = (),
    ) -> None:
        """`environment` is what runs get, `variables` are the repository's, `options` the stand-in's own."""
        self.folder, self.environment = folder, environment
        self.variables, self.options = variables, options

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "loop_demo.github", "--root", str(self.folder), "--with-stdin"]
        for name, value in self.variables.items():
            command.append(f"--var={name}={value}")
        command += [*self.options, "--repository", REPOSITORY]
        with (self.folder.parent / "github.log").open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, **self.environment},
            )
        ready = json.loads(self._process.stdout.readline() or "null")  # type: ignore[union-attr]
        if ready is None:
            raise LoopError(
                f"the stand-in for GitHub did not start: {self.folder.parent}/github.log says why"
            )
        self.url = ready["repositories"][REPOSITORY]  # where it is cloned from, without a token
        self.clone_url = self.url.replace("//", f"//person:{ready['token']}@")
        self.bare = self.folder / "repositories" / f"{REPOSITORY}.git"
        self.person = GitHub(ready["url"], REPOSITORY, ready["token"])
        self.bot = GitHub(ready["url"], REPOSITORY, ready["bot_token"])
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def runs(self, workflow: str) -> set[int]:
        """The ids of a workflow's runs so far."""
        return {run["id"] for run in self.person.runs(workflow)}

    def finished(
        self,
        workflow: str,
        before: set[int],
        tell: Callable[[str], None],
        *,
        seconds: float,
        branch: str | None = None,
    ) -> dict[str, Any]:
        """Wait for the one run since `before`, of `branch` if named; until it is over `tell` its steps."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for run in self.person.runs(workflow):
                if run["id"] in before or branch not in {None, run["head_branch"]}:
                    continue
                if run["status"] == "completed":
                    return run
                tell(self.step(run))
            time.sleep(0.3)
        raise LoopError(f"{workflow} did not end within {seconds:.0f} s", fix=f"see {self.folder}/runs")

    def step(self, run: Mapping[str, Any]) -> str:
        """The job and step that a run has begun last; empty before its first."""
        log = self.folder / "runs" / str(run["id"]) / "log.txt"
        begun = STEP.findall(log.read_text(encoding="utf-8", errors="replace")) if log.exists() else []
        return ": ".join(begun[-1]) if begun else ""

    def log(self, run: Mapping[str, Any]) -> str:
        """What a run printed."""
        url = f"{self.person.url}/_log/{REPOSITORY}/{run['id']}"
        headers = {"Authorization": f"Bearer {self.person.token}"}
        return httpx.get(url, headers=headers, timeout=30, follow_redirects=True, trust_env=False).text

    def merge(self, number: int, **words: str) -> str:
        """Merge a pull request, as a reviewer does; `words` are GitHub's commit_title, commit_message."""
        merged = self.person.call("PUT", f"/pulls/{number}/merge", json={"merge_method": "squash", **words})
        return str(merged["sha"])

    def report(self, number: int, seconds: float = 120) -> str:
        """The report on a pull request, once report.yml has posted it."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if found := self.person.call("GET", f"/issues/{number}/comments"):
                return str(found[-1]["body"])
            time.sleep(0.3)
        raise LoopError(f"#{number} has no report after {seconds:.0f} s", fix=f"see {self.folder}/runs")
