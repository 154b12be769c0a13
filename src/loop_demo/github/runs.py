"""Runs of workflows: queued, then each under act on this host in a fresh clone at the event's commit."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from loop_demo.github import events, jobs
from loop_demo.github.hooks import Hooks
from loop_demo.github.hosting import Hosting, Repository
from loop_demo.github.state import State, now, write

LABELS = ("ubuntu-latest", "ubuntu-24.04", "gpu")  # what `runs-on` may name: all of them are this host
MARK = "STAND_IN_RUN"  # in the environment of every process of a run, so that all of them can be found


# Variables that belong to whoever started this server: their clone, their workflow, their tests.
FOREIGN: tuple[str, ...] = (
    "GIT_",
    "GITHUB_",
    "RUNNER_",
    "ACTIONS_",
    "ACT_",
    "PYTHONPATH",
    "VIRTUAL_ENV",
    "PYTEST_",
)
FOREIGN += ("MAKE", "MFLAGS", "ARGS")  # what somebody gave to make is for their tests, not for those of a run
OURS = ("LOOP_", "UV_")  # those that a job in a container has too
# Which of our own actions plays which of GitHub's, whatever commit a workflow pins.
PLAYED = {
    "actions/checkout": "checkout",
    "actions/download-artifact": "artifact",
    "actions/upload-artifact": "artifact",
}
PLAYS = Path(__file__).resolve().parent / "played"
USES = re.compile(r"\b(" + "|".join(PLAYED) + r")@([0-9a-f]{40})\b")


@dataclass(frozen=True)
class Event:
    """What starts workflows: `commit` is checked out, `head` is the commit that GitHub shows."""

    name: str
    payload: dict[str, Any]
    commit: str
    head: str
    ref: str
    title: str


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
    hooks: Hooks
    keep: bool = False
    image: str | None = None
    mounts: list[str] = field(default_factory=list)
    pulls_by_actions: bool = True
    on_end: Callable[[dict[str, Any]], None] = lambda _: None  # gets each run that is over

    def __post_init__(self) -> None:
        self.grants: dict[str, jobs.Grants] = {}  # {token of a job whose run is not over: what it may do}
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
        self.hooks.stop()
        self._pool.shutdown(wait=False, cancel_futures=True)
        with self.state.look() as data:
            running = [run for run in data["runs"] if run["status"] == "in_progress"]
        for run in running:
            self._kill(run)
        self._pool.shutdown(wait=True)

    def enqueue(self, repo: Repository, file: str, event: Event) -> dict[str, Any]:
        """Queue one run of one workflow file, as the event's commit has it."""
        workflow = events.parse(repo.workflows(event.commit)[file])
        path = f".github/workflows/{file}"
        pull = event.payload.get("pull_request")
        source = pull["head"]["repo"] if pull else event.payload["repository"]
        ref = f"refs/pull/{event.payload['number']}/merge" if event.name == "pull_request" else event.ref
        with self.state.look() as data:  # held until the event is written, so that no listed run lacks it
            number = 1 + sum(run["path"] == path and run["repository"] == repo.name for run in data["runs"])
            run = self.state.add(
                "runs",
                repository=repo.name,
                name=str(workflow.get("name", path)),
                display_title=events.title(workflow, event.payload, event.title),
                path=path,
                run_number=number,
                event=event.name,
                status="queued",
                conclusion=None,
                head_branch=event.ref.removeprefix("refs/heads/"),
                head_sha=event.head,
                actor=event.payload["sender"],
                commit=event.commit,
                head_repository=source["full_name"],
                fork=source["fork"],
                ref=ref,
                run_started_at=None,
            )
            (folder := self._folder(run)).mkdir(parents=True)
            write(folder / "event.json", event.payload)
        self._submit(run)
        return run

    def cancel(self, run: dict[str, Any]) -> bool:
        """End a run that is queued or running; False when it is over already."""
        with self.state.look():
            if run["status"] == "completed":
                return False
            waits = run["status"] == "queued"
            self.state.update(run, cancelled=True, **({"status": "completed"} if waits else {}))
        if waits:
            self._finish(run, "cancelled")
        else:
            self._kill(run)
        return True

    @property
    def host(self) -> str:
        """The address that this server is at, and its runs' artifact servers too."""
        return urlsplit(self.url).hostname or "127.0.0.1"

    def summary(self, run: dict[str, Any]) -> Path:
        """What the run's steps told in their summaries: act has none that lasts."""
        return self._folder(run).resolve() / "summary.md"

    def log(self, run: dict[str, Any]) -> Path:
        """What act printed."""
        return self._folder(run) / "log.txt"

    def artifacts(self, run: dict[str, Any]) -> list[Path]:
        """The zips that a run has uploaded, each called as its artifact."""
        return sorted((self._folder(run) / "artifacts").glob("*/*/*.zip"))

    def settings(self, repository: str) -> dict[str, Any]:
        """What a person has set for a repository: see settings.py."""
        with self.state.look() as data:
            return dict(data["settings"].get(repository, {}))

    def _environments(self, run: dict[str, Any]) -> dict[str, jobs.Environment]:
        """What a run's jobs may use of the repository's environments."""
        branch, held = run["ref"].removeprefix("refs/heads/"), self.settings(run["repository"])
        return {
            name: jobs.Environment(each["branches"] is None or branch in each["branches"], each["secrets"])
            for name, each in held.get("environments", {}).items()
        }

    def _folder(self, run: dict[str, Any]) -> Path:
        return self.root / str(run["id"])

    def _submit(self, run: dict[str, Any]) -> None:
        if self.at_once:
            self._pool.submit(self._execute, run)

    def _execute(self, run: dict[str, Any]) -> None:
        with self.state.look():
            if run.get("cancelled"):
                return
            self.state.update(run, status="in_progress", run_started_at=now())
        tokens: dict[str, jobs.Grants] = {}
        try:
            tokens = self._plan(run)
            self.grants |= tokens
            code = self._act(run)
            self._finish(run, "success" if code == 0 else "failure")
        except Exception as error:  # noqa: BLE001 - a run that cannot start is a failed run, and the server goes on
            self._finish(run, "failure", f"\n{type(error).__name__}: {error}\n")
        finally:
            for token in tokens:
                self.grants.pop(token, None)

    def _finish(self, run: dict[str, Any], conclusion: str, words: str = "") -> None:
        self._kill(run)  # whatever a step has left behind
        with self.log(run).open("a") as log:
            log.write(words)
        if not self.keep:
            (self._folder(run) / "secrets").unlink(missing_ok=True)
            # GitHub keeps every artifact; here those stay that a run of main's takes from a pull request's.
            for scratch in ("plan", "act", *(["artifacts"] if run["event"] != "pull_request" else [])):
                shutil.rmtree(self._folder(run) / scratch, ignore_errors=True)
        conclusion = "cancelled" if run.get("cancelled") else conclusion
        self.state.update(run, status="completed", conclusion=conclusion)
        if self._stopping:
            return
        try:
            self.on_end(run)
        except Exception as error:  # noqa: BLE001 - the run is over all the same, and the server goes on
            print(f"what the end of run {run['id']} starts: {error}", file=sys.stderr, flush=True)

    def _plan(self, run: dict[str, Any]) -> dict[str, jobs.Grants]:
        """Lay out what act plans by: the workflows of the run's commit. Returns what its jobs' tokens may do.

        A job's workspace begins empty, as at GitHub: it has what `actions/checkout` fetches.
        """
        repo = self.hosting.find(run["repository"])
        if repo is None:
            raise FileNotFoundError(run["repository"])
        folder = self._folder(run) / "plan" / ".github" / "workflows"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        files, file = repo.workflows(run["commit"]), Path(run["path"]).name
        ready, tokens = jobs.prepared(
            files, file, "read" if run["fork"] else "write", self._environments(run)
        )
        for name, text in ready.items():
            (folder / name).write_text(text)
        (self._folder(run) / "artifacts" / str(run["id"])).mkdir(parents=True, exist_ok=True)
        return tokens

    def _act(self, run: dict[str, Any]) -> int:
        """Run the workflow; act's exit status."""
        (secrets := self._folder(run) / "secrets").touch(mode=0o600)
        for file, settings in {
            secrets: [] if run["fork"] else [*self.secrets, *jobs.lines(self._environments(run))],
            self._folder(run) / "variables": self.variables,
            self._folder(run) / "environment": [f"{k}={v}" for k, v in self._environment(run).items()],
        }.items():
            file.write_text("\n".join(settings))
        with self.log(run).open("w") as log:
            process = subprocess.Popen(
                self._command(run),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._host(run),
                start_new_session=True,
            )
            if self._stopping or run.get("cancelled"):
                self._kill(run)
            return process.wait()

    def _command(self, run: dict[str, Any]) -> list[str]:
        folder = self._folder(run)
        options = {
            "directory": f"{folder}/plan",
            "workflows": f"{folder}/plan/{run['path']}",
            "artifact-server-addr": self.host,
            "artifact-server-path": f"{folder}/artifacts",
            "artifact-server-port": str(_free_port(self.host)),  # of its own: no two runs share artifacts
            "eventpath": f"{folder}/event.json",
            "actor": run["actor"]["login"],
            "defaultbranch": self.hosting.known(run["repository"]).default_branch,
            "env-file": f"{folder}/environment",
            "secret-file": f"{folder}/secrets",
            "var-file": f"{folder}/variables",
            "input-file": "/dev/null",
            "action-cache-path": f"{folder}/act",  # a place of its own: no two runs meet there
            "pull": "false",
        }
        labels = [f"--platform={label}={self.image or '-self-hosted'}" for label in LABELS]
        flags = ["--no-recurse", "--action-offline-mode", "--no-cache-server", "--no-skip-checkout", "--rm"]
        flags += self._played(folder / "plan")
        if self.image:
            flags += ["--network=host", f"--container-options={self._mounts()}"]
        return [self.act, run["event"], *(f"--{k}={v}" for k, v in options.items()), *labels, *flags]

    @staticmethod
    def _played(plan: Path) -> list[str]:
        """Options that let our own actions stand in for those that workflows pin by commit."""
        found = {match.groups() for path in plan.rglob("*.yml") for match in USES.finditer(path.read_text())}
        return [f"--local-repository={name}@{sha}={PLAYS / PLAYED[name]}" for name, sha in sorted(found)]

    def _mounts(self) -> str:
        """What a container sees of this host, where it is here: what clones borrow, summaries, the cache."""
        folders = (self.root.parent, os.environ["LOOP_CACHE"], *self.mounts)
        return " ".join(f"--volume={folder}:{folder}" for folder in folders)

    def _environment(self, run: dict[str, Any]) -> dict[str, str]:
        """What differs from what act would set itself."""
        return {
            "GITHUB_REPOSITORY": run["repository"],
            "GITHUB_SERVER_URL": self.url,
            "GITHUB_API_URL": self.url,
            "LOOP_GITHUB_API_URL": self.url,
            "LOOP_GITHUB_STEP_SUMMARY": str(self.summary(run)),
            "GITHUB_RUN_ID": str(run["id"]),
            "GITHUB_RUN_NUMBER": str(run["run_number"]),
            "GITHUB_RUN_ATTEMPT": "1",
            "GITHUB_REF": run["ref"],
            "SHA_REF": run["commit"],  # act's name for what becomes GITHUB_SHA
            # A job on this host inherits this process's variables; one in a container only these.
            **{name: value for name, value in os.environ.items() if self.image and name.startswith(OURS)},
        }

    def _host(self, run: dict[str, Any]) -> dict[str, str]:
        """This process's environment without what belongs to another clone or another workflow."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        ours = {"ACT_DISABLE_VERSION_CHECK": "1", "GIT_TERMINAL_PROMPT": "0", MARK: str(self._folder(run))}
        return {**kept, **ours}

    def _kill(self, run: dict[str, Any]) -> None:
        """Kill every process of a run, found by MARK: act gives each step a session of its own."""
        while pids := _processes_with(MARK, str(self._folder(run))):
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue


def _free_port(host: str) -> int:
    with socket.create_server((host, 0)) as listener:
        return int(listener.getsockname()[1])


def _processes_with(name: str, value: str) -> list[int]:
    """Living processes of ours whose environment has the variable `name` with this value."""
    import psutil  # here, because it is needed only when a run ends

    running = psutil.process_iter(["environ"])
    return [each.pid for each in running if (each.info["environ"] or {}).get(name) == value]
