"""The stand-in for GitHub in tests: start it, act as a person or the bot, and wait for runs."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx

from loop.core.github import GitHub

ROOT = Path(__file__).resolve().parents[2]
SUMMARY = 1024 * 1024  # the most bytes of a step's summary at GitHub
FORKER = "mallory"  # owns a fork of every repository
WHO = ["-c", "user.name=Person", "-c", "user.email=person@example.test"]


@cache
def client() -> httpx.Client:
    """Return one client for all calls, because each new client reads the machine's certificates again."""
    return httpx.Client(timeout=30)


def looks(seconds: float) -> Iterator[None]:
    """Yield until the time is up, less and less often, because each poll costs both sides CPU."""
    began = time.monotonic()
    while (waited := time.monotonic() - began) < seconds:
        yield
        time.sleep(min(0.5, 0.02 + waited / 20))


class Server:
    """The stand-in's process. After `stop`, a new server at the same root continues its state."""

    def __init__(self, root: Path, *options: str, source: Path = ROOT / "src") -> None:
        self.root = root
        self._process = subprocess.Popen(
            [sys.executable, "-m", "loop_demo.github", "--root", root, "--with-stdin", *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": f"{source}:{ROOT / 'src'}"},
        )
        ready = json.loads(self._process.stdout.readline())
        self.url, self.tokens = ready["url"], {"person": ready["token"], "bot": ready["bot_token"]}
        self.tokens["stranger"] = ready["stranger_token"]  # FORKER, who may write only to its own forks

    def stop(self) -> None:
        self._process.terminate()
        self._process.communicate(timeout=30)

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate(timeout=30)


@contextmanager
def repositories(root: Path, count: int, *options: str) -> Iterator[Iterator["StandIn"]]:
    """Start a server with `count` empty repositories, and yield an iterator over them."""
    names = [f"acme/r{number}" for number in range(count)]
    forks = [name.replace("acme", FORKER) for name in names]
    server = Server(root, *(word for name in (*names, *forks) for word in ("--repository", name)), *options)
    yield (StandIn(server, name) for name in names)
    server.stop()


class StandIn:
    """One repository at the stand-in."""

    def __init__(self, server: Server, name: str) -> None:
        self.server, self.name = server, name

    def as_(self, who: str) -> GitHub:
        """Return the project's own client for `person`, `bot` or `stranger`."""
        return GitHub(self.server.url, self.name, self.server.tokens[who])

    def ask(self, method: str, path: str, who: str = "person", body: Any = None) -> httpx.Response:
        """Make a REST call below /repos/{owner}/{name}, and return the answer whatever its status."""
        headers = {"Authorization": f"Bearer {self.server.tokens[who]}"}
        url = f"{self.server.url}/repos/{self.name}{path}"
        return client().request(method, url, headers=headers, json=body)

    def own(self, method: str, path: str, body: Any = None) -> httpx.Response:
        """Make one of the stand-in's own calls, which GitHub does not have."""
        headers = {"Authorization": f"Bearer {self.server.tokens['person']}"}
        return client().request(method, f"{self.server.url}/{path}", headers=headers, json=body)

    def enqueue(self, number: int) -> httpx.Response:
        """Put a pull request into its base's merge queue, and return the answer."""
        return self.own("POST", f"_queue/{self.name}/{number}")

    def dequeued(self, count: int = 1, seconds: float = 60) -> list[dict[str, Any]]:
        """Wait until the merge queue is empty and has had `count` entries; return them, oldest first."""
        for _ in looks(seconds):
            listed = json.loads((self.server.root / "state.json").read_text())["queue"]
            entries = [entry for entry in listed if entry["repository"] == self.name]
            if len(entries) >= count and all(entry["reason"] for entry in entries):
                return entries
        raise TimeoutError(f"still in the queue after {seconds} s: {entries}")

    def clone_url(self, who: str) -> str:
        return f"{self.server.url}/{self.name}.git".replace("//", f"//x:{self.server.tokens[who]}@")

    @property
    def fork(self) -> "StandIn":
        """Return the fork of this repository that FORKER owns."""
        return StandIn(self.server, f"{FORKER}/{self.name.partition('/')[2]}")

    def clone(self, folder: Path, who: str = "person") -> "Clone":
        subprocess.run(["git", "clone", "-q", self.clone_url(who), folder], check=True, capture_output=True)
        return Clone(folder)

    def seed(self, folder: Path, files: dict[str, str], branch: str = "main") -> "Clone":
        """Push a branch's first commit as the bot, so that no workflow starts; return a person's clone."""
        first = self.clone(folder.with_name(f"{folder.name}-seed"), "bot")
        first.commit("begin", files)
        first.git("push", "-q", "origin", f"HEAD:refs/heads/{branch}")
        return self.clone(folder)

    def runs(self, **query: str) -> list[dict[str, Any]]:
        """Return all runs, newest first, except those that the end of another run started: see `reported`."""
        found = self.ask("GET", f"/actions/runs?{urlencode({'per_page': 100, **query})}").json()
        return [run for run in found["workflow_runs"] if "event" in query or run["event"] != "workflow_run"]

    def reported(self, run: dict[str, Any], seconds: float = 60) -> dict[str, Any]:
        """Wait for the run that the end of `run` started, and return it."""
        for _ in looks(seconds):
            for report in self.runs(event="workflow_run"):
                if self.event(report)["workflow_run"]["id"] == run["id"] and report["status"] == "completed":
                    return report
        raise TimeoutError(f"no run that the end of run {run['id']} started has ended within {seconds} s")

    def wait(self, number: int = 1, seconds: float = 60) -> list[dict[str, Any]]:
        """Wait until there are `number` runs and all are completed; return them, newest first."""
        for _ in looks(seconds):
            runs = self.runs()
            if len(runs) >= number and all(run["status"] == "completed" for run in runs):
                return runs
        raise TimeoutError(f"not completed in {seconds} s: {[(r['name'], r['status']) for r in self.runs()]}")

    def finished(self, workflow: str, number: int = 1, seconds: float = 900) -> list[dict[str, Any]]:
        """Wait until a workflow has `number` runs and all are completed; return them, newest first."""
        for _ in looks(seconds):
            runs = self.ask("GET", f"/actions/workflows/{workflow}/runs").json()["workflow_runs"]
            if len(runs) >= number and all(run["status"] == "completed" for run in runs):
                return runs
        raise TimeoutError(f"{workflow} not completed {number} times in {seconds} s")

    def log(self, run: dict[str, Any]) -> str:
        path = self.server.root / "runs" / str(run["id"]) / "log.txt"
        return path.read_text(errors="replace") if path.exists() else ""

    def event(self, run: dict[str, Any]) -> dict[str, Any]:
        """Return the event that started a run, as `github.event` has it."""
        return json.loads((self.server.root / "runs" / str(run["id"]) / "event.json").read_text())

    def summary(self, run: dict[str, Any]) -> str:
        """Return a run's summary; an error if GitHub's runner would drop it, because it is over 1 MiB."""
        path = self.server.root / "runs" / str(run["id"]) / "summary.md"
        text = path.read_bytes() if path.exists() else b""
        assert len(text) <= SUMMARY
        return text.decode()


class Clone:
    """A clone that belongs to a person or to the bot."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def git(self, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["git", *WHO, *args], cwd=self.folder, capture_output=True, text=True, check=check
        )

    def commit(self, message: str, files: dict[str, str]) -> str:
        for path, text in files.items():
            (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / path).write_text(text)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD").stdout.strip()

    def push(self, message: str, files: dict[str, str], branch: str = "main") -> str:
        sha = self.commit(message, files)
        self.git("push", "-q", "origin", f"HEAD:refs/heads/{branch}")
        return sha
