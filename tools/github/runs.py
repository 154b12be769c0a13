"""Runs of workflows: queued, then each under act on this host in a fresh clone at the event's commit."""

import base64
import os
import shutil
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any

import events
from hosting import Hosting, Repository
from state import State, now, write

LABELS = ("ubuntu-latest", "ubuntu-24.04", "gpu")  # what `runs-on` may name: all of them are this host
MARK = "STAND_IN_RUN"  # in the environment of every process of a run, so that all of them can be found


@dataclass
class Runner:
    """Starts what an event starts, at most `at_once` runs at a time."""

    state: State
    hosting: Hosting
    root: Path
    url: str
    act: str
    at_once: int
    secrets: list[str]
    variables: list[str]
    keep: bool = False

    def __post_init__(self) -> None:
        self.grants: dict[str, set[str]] = {}  # {token of a run that is not over: what it may write}
        self._pool = ThreadPoolExecutor(max_workers=max(self.at_once, 1))
        self._stopping = False

    def start(self) -> None:
        """Take up what an earlier life of this server left: what ran has failed, what waited runs."""
        with self.state.look() as data:
            left = [run for run in data["runs"] if run["status"] != "completed"]
        for run in left:
            if run["status"] == "in_progress":
                self._kill(run)
                self._finish(run, "failure", "\nThe runner was stopped while this ran.\n")
            else:
                self._submit(run)

    def stop(self) -> None:
        """Kill what runs; it shows as failed. What waits stays queued, for the next start."""
        self._stopping = True
        self._pool.shutdown(wait=False, cancel_futures=True)
        with self.state.look() as data:
            running = [run for run in data["runs"] if run["status"] == "in_progress"]
        for run in running:
            self._kill(run)
        self._pool.shutdown(wait=True)

    def enqueue(
        self,
        repo: Repository,
        file: str,
        event: str,
        payload: dict[str, Any],
        *,
        commit: str,
        head: str,
        ref: str,
        title: str,
    ) -> dict[str, Any]:
        """Queue one run of one workflow file at `commit`; `head` is the commit that GitHub shows for it."""
        workflow = events.parse(repo.workflows(commit)[file])
        path = f".github/workflows/{file}"
        with self.state.look() as data:
            number = 1 + sum(run["path"] == path and run["repository"] == repo.name for run in data["runs"])
        run = self.state.add(
            "runs",
            repository=repo.name,
            name=str(workflow.get("name", path)),
            display_title=events.title(workflow, payload, title),
            path=path,
            run_number=number,
            event=event,
            status="queued",
            conclusion=None,
            head_branch=ref.removeprefix("refs/heads/"),
            head_sha=head,
            actor=payload["sender"],
            commit=commit,
            run_started_at=None,
        )
        folder = self.root / str(run["id"])
        folder.mkdir(parents=True)
        write(folder / "event.json", payload)
        self._submit(run)
        return run

    def log(self, run: dict[str, Any]) -> Path:
        """What act printed."""
        return self.root / str(run["id"]) / "log.txt"

    def _submit(self, run: dict[str, Any]) -> None:
        if self.at_once:
            self._pool.submit(self._execute, run)

    def _execute(self, run: dict[str, Any]) -> None:
        self.state.update(run, status="in_progress", run_started_at=now())
        token = f"ghs_{token_hex(18)}"
        try:
            self.grants[token] = self._clone(run, token)
            code = self._act(run, token)
            self._finish(run, "success" if code == 0 else "failure")
        except Exception as error:  # noqa: BLE001 - a run that cannot start is a failed run, and the server goes on
            self._finish(run, "failure", f"\n{type(error).__name__}: {error}\n")
        finally:
            self.grants.pop(token, None)

    def _finish(self, run: dict[str, Any], conclusion: str, words: str = "") -> None:
        folder = self.root / str(run["id"])
        with self.log(run).open("a") as log:
            log.write(words)
        if not self.keep:
            for scratch in ("clone", "act", "secrets"):
                target = folder / scratch
                shutil.rmtree(target, ignore_errors=True) if target.is_dir() else target.unlink(
                    missing_ok=True
                )
        self.state.update(run, status="completed", conclusion=conclusion)

    def _clone(self, run: dict[str, Any], token: str) -> set[str]:
        """As actions/checkout leaves it: detached at the commit, the run's token for this server configured.

        Objects are borrowed from the bare repository, so that act's copy of the clone stays small. Returns
        what the workflow there lets the token write.
        """
        repo = self.hosting.find(run["repository"])
        if repo is None:
            raise FileNotFoundError(run["repository"])
        clone = self.root / str(run["id"]) / "clone"
        shutil.rmtree(clone, ignore_errors=True)
        git = ["git", "-c", "advice.detachedHead=false"]
        subprocess.run([*git, "clone", "-q", "--shared", "--no-checkout", repo.path, clone], check=True)
        credentials = base64.b64encode(f"x-access-token:{token}".encode()).decode()
        for words in (
            ["remote", "set-url", "origin", f"{self.url}/{repo.name}.git"],
            ["config", f"http.{self.url}/.extraheader", f"AUTHORIZATION: basic {credentials}"],
            ["checkout", "-q", "--detach", run["commit"]],
        ):
            subprocess.run([*git, "-C", clone, *words], check=True)
        return events.grants(events.parse((clone / run["path"]).read_text()))

    def _act(self, run: dict[str, Any], token: str) -> int:
        folder = self.root / str(run["id"])
        secrets = folder / "secrets"
        secrets.touch(mode=0o600)
        secrets.write_text("\n".join([*self.secrets, f"GITHUB_TOKEN={token}"]))
        (folder / "variables").write_text("\n".join(self.variables))
        (folder / "environment").write_text("\n".join(f"{k}={v}" for k, v in self._environment(run).items()))
        command = [
            *(self.act, run["event"]),
            *(
                "--workflows",
                f"{folder}/clone/{run['path']}",
                "--no-recurse",
                "--directory",
                f"{folder}/clone",
            ),
            *(word for label in LABELS for word in ("--platform", f"{label}=-self-hosted")),
            *(
                "--eventpath",
                f"{folder}/event.json",
                "--actor",
                run["actor"]["login"],
                "--defaultbranch",
                "main",
            ),
            *("--env-file", f"{folder}/environment", "--secret-file", f"{folder}/secrets"),
            *("--var-file", f"{folder}/variables", "--input-file", "/dev/null"),
            *("--action-cache-path", f"{folder}/act", "--action-offline-mode", "--no-cache-server"),
            *("--pull=false", "--rm"),
        ]
        with self.log(run).open("w") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._host(run),
                start_new_session=True,
            )
            if self._stopping:
                self._kill(run)
            return process.wait()

    def _environment(self, run: dict[str, Any]) -> dict[str, str]:
        """What differs from what act would set itself."""
        return {
            "GITHUB_REPOSITORY": run["repository"],
            "GITHUB_SERVER_URL": self.url,
            "GITHUB_API_URL": self.url,
            "LOOP_GITHUB_API_URL": self.url,
            "GITHUB_RUN_ID": str(run["id"]),
            "GITHUB_RUN_NUMBER": str(run["run_number"]),
            "GITHUB_RUN_ATTEMPT": "1",
            "SHA_REF": run["commit"],  # act's name for what becomes GITHUB_SHA
        }

    def _host(self, run: dict[str, Any]) -> dict[str, str]:
        """This process's environment without what belongs to another clone or another workflow."""
        foreign = (
            "GIT_",
            "GITHUB_",
            "RUNNER_",
            "ACTIONS_",
            "ACT_",
            "PYTHONPATH",
            "VIRTUAL_ENV",
            "PYTEST_",
            "COV_",
        )
        kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        return {**kept, "ACT_DISABLE_VERSION_CHECK": "1", MARK: str(self.root / str(run["id"]))}

    def _kill(self, run: dict[str, Any]) -> None:
        """Kill every process of a run, found by MARK: act gives each step a session of its own."""
        mark = f"{MARK}={self.root / str(run['id'])}".encode()
        while pids := _processes_with(mark):
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue


def _processes_with(mark: bytes) -> list[int]:
    """Living processes whose environment holds `mark` (Linux)."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except OSError:
            continue
    return found
