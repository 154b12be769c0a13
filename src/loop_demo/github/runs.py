"""Runs workflows: each run is queued and then executed by act on this host, at the event's commit."""

import os
import re
import shutil
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from loop.core.files import write_json
from loop_demo.github import events, jobs
from loop_demo.github.hooks import Hooks
from loop_demo.github.hosting import Hosting, Repository
from loop_demo.github.state import Record, State, now

# The labels that `runs-on` may name; all of them mean this host
LABELS = ("ubuntu-latest", "ubuntu-24.04", "gpu")
MARK = "STAND_IN_RUN"  # an environment variable of every process of a run, by which they are found and killed

# Prefixes of environment variables that must not reach a run, because they describe the process that started
# the stand-in: its clone, its workflow, its tests, and the arguments that make got for them
FOREIGN = (
    *("GIT_", "GITHUB_", "RUNNER_", "ACTIONS_", "ACT_", "PYTHONPATH", "VIRTUAL_ENV", "PYTEST_"),
    *("MAKE", "MFLAGS", "ARGS"),
)
OURS = ("LOOP_", "UV_")  # prefixes of variables that a job in a container gets too
# GitHub's actions and the folders of the stand-in's replacements, whatever commit a workflow pins
PLAYED = {f"actions/{act}-artifact": "artifact" for act in ("upload", "download")}
PLAYED["actions/checkout"] = "checkout"
PLAYS = Path(__file__).resolve().parent / "played"
USES = re.compile(r"\b(" + "|".join(PLAYED) + r")@([0-9a-f]{40})\b")


@dataclass(frozen=True)
class Event:
    """An event that starts workflows. `commit` is checked out; `head` is what GitHub shows, if it differs."""

    name: str
    payload: dict[str, Any]
    commit: str
    ref: str
    title: str | None = None  # of its runs; by default the workflow's name
    head: str | None = None


class Runner:
    """Queues and executes the runs that events start. `options` are the stand-in's (see __main__.py)."""

    def __init__(self, options: Namespace, state: State, hosting: Hosting) -> None:
        self.options, self.state, self.hosting = options, state, hosting
        self.hooks = Hooks(options.hook, options.hook_secret)
        self.grants: dict[str, jobs.Grants] = {}  # {token of a job: its grants}, while the run lasts
        self.on_end: Callable[[Record], None] = lambda _: None  # gets each run that has ended
        self._pool = ThreadPoolExecutor(max_workers=max(options.at_once, 1))
        self._stopping = False

    def start(self) -> None:
        """Handle the runs of a previous process: started runs count as failed, queued ones are executed."""
        # Both are listed first, because the end of a run may queue another one
        started, queued = (self.state.of("runs", status=status) for status in ("in_progress", "queued"))
        for run in started:
            self._finish(run, "failure", "\nThe runner was stopped while this ran.\n")
        for run in queued:
            self._submit(run)

    def stop(self) -> None:
        """Kill the started runs, which then count as failed. Queued runs stay queued until the next start."""
        self._stopping = True
        self.hooks.stop()
        self._pool.shutdown(wait=False, cancel_futures=True)
        for run in self.state.of("runs", status="in_progress"):
            self._kill(run)
        self._pool.shutdown(wait=True)

    def enqueue(self, repo: Repository, file: str, event: Event) -> Record:
        """Queue a run of a workflow file, in the version that the event's commit has."""
        workflow = events.parse(repo.workflows(event.commit)[file])
        path = f".github/workflows/{file}"
        name = str(workflow.get("name", path))
        pull = event.payload.get("pull_request")
        source = pull["head"]["repo"] if pull else event.payload["repository"]
        ref = f"refs/pull/{event.payload['number']}/merge" if event.name == "pull_request" else event.ref
        # The state is locked until event.json is written, so that every listed run has its event
        with self.state.lock:
            number = 1 + len(self.state.of("runs", path=path, repository=repo.name))
            run = self.state.add(
                "runs",
                repository=repo.name,
                name=name,
                display_title=events.title(workflow, event.payload, event.title or name),
                path=path,
                run_number=number,
                event=event.name,
                status="queued",
                conclusion=None,
                head_branch=event.ref.removeprefix("refs/heads/"),
                head_sha=event.head or event.commit,
                actor=event.payload["sender"],
                commit=event.commit,
                head_repository=source["full_name"],
                fork=source["fork"],
                ref=ref,
                run_started_at=None,
            )
            (self.folder(run) / "artifacts").mkdir(parents=True)
            write_json(self.folder(run) / "event.json", event.payload)
        self._submit(run)
        return run

    def cancel(self, run: Record) -> bool:
        """Cancel a queued or started run; False if it has already ended."""
        with self.state.lock:
            if run["status"] == "completed":
                return False
            waits = run["status"] == "queued"
            self.state.update(run, cancelled=True, **({"status": "completed"} if waits else {}))
        if waits:
            self._finish(run, "cancelled")
        else:
            self._kill(run)
        return True

    def artifacts(self, run: Record) -> list[Path]:
        """Return the zip files of a run's artifacts; each is named after its artifact."""
        return sorted((self.folder(run) / "artifacts").glob("*.zip"))

    def folder(self, run: Record) -> Path:
        """Return the folder of a run's log, summary and artifacts."""
        return Path(self.options.root, "runs", str(run["id"]))

    def _submit(self, run: Record) -> None:
        if self.options.at_once:
            self._pool.submit(self._execute, run)

    def _execute(self, run: Record) -> None:
        with self.state.lock:
            if run.get("cancelled"):
                return
            self.state.update(run, status="in_progress", run_started_at=now())
        tokens: dict[str, jobs.Grants] = {}
        try:
            tokens = self._prepared(run)
            self.grants |= tokens
            code = self._act(run)
            self._finish(run, "success" if code == 0 else "failure")
        except Exception as error:  # noqa: BLE001 - a run that cannot start is a failed run, and the server goes on
            self._finish(run, "failure", f"\n{type(error).__name__}: {error}\n")
        finally:
            for token in tokens:
                self.grants.pop(token, None)

    def _finish(self, run: Record, conclusion: str, words: str = "") -> None:
        self._kill(run)  # kill processes that a step has left running
        with (self.folder(run) / "log.txt").open("a") as log:
            log.write(words)
        (self.folder(run) / "secrets").unlink(missing_ok=True)
        # GitHub keeps all artifacts. The stand-in keeps only those of pull requests, because a run on main
        # downloads them later.
        for scratch in ("plan", "act", *(["artifacts"] if run["event"] != "pull_request" else [])):
            shutil.rmtree(self.folder(run) / scratch, ignore_errors=True)
        conclusion = "cancelled" if run.get("cancelled") else conclusion
        self.state.update(run, status="completed", conclusion=conclusion)
        if self._stopping:
            return
        try:
            self.on_end(run)
        except Exception as error:  # noqa: BLE001 - the run is over all the same, and the server goes on
            words = f"starting workflows at the end of run {run['id']} failed: {error}"
            print(words, file=sys.stderr, flush=True)

    def _prepared(self, run: Record) -> dict[str, jobs.Grants]:
        """Write what act needs for a run, and return the grants of the jobs' tokens.

        Of the commit only the workflows are written, because a job's workspace begins empty, as at GitHub;
        `actions/checkout` fills it.
        """
        files, file = self.hosting.known(run["repository"]).workflows(run["commit"]), Path(run["path"]).name
        ready, tokens = jobs.prepared(files, file, "read" if run["fork"] else "write")
        folder = self.folder(run)
        (workflows := folder / "plan" / ".github" / "workflows").mkdir(parents=True)
        for name, text in ready.items():
            (workflows / name).write_text(text)
        (folder / "secrets").touch(mode=0o600)
        for name, settings in {
            "secrets": [] if run["fork"] else self.options.secret,
            "variables": self.options.var,
            "environment": [f"{key}={value}" for key, value in self._environment(run).items()],
        }.items():
            (folder / name).write_text("\n".join(settings))
        return tokens

    def _act(self, run: Record) -> int:
        """Run a workflow with act, and return act's exit status."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        ours = {"ACT_DISABLE_VERSION_CHECK": "1", "GIT_TERMINAL_PROMPT": "0", MARK: str(self.folder(run))}
        with (self.folder(run) / "log.txt").open("w") as log:
            process = subprocess.Popen(
                self._command(run),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**kept, **ours},
                start_new_session=True,
            )
            if self._stopping or run.get("cancelled"):
                self._kill(run)
            return process.wait()

    def _command(self, run: Record) -> list[str]:
        folder = self.folder(run)
        options = {
            "directory": f"{folder}/plan",
            "workflows": f"{folder}/plan/{run['path']}",
            "eventpath": f"{folder}/event.json",
            "actor": run["actor"]["login"],
            "defaultbranch": self.hosting.known(run["repository"]).default_branch,
            "env-file": f"{folder}/environment",
            "secret-file": f"{folder}/secrets",
            "var-file": f"{folder}/variables",
            "input-file": "/dev/null",
            # A folder for each run's copies of actions, so that no two runs write to the same one
            "action-cache-path": f"{folder}/act",
            "pull": "false",
        }
        labels = [f"--platform={label}={self.options.image or '-self-hosted'}" for label in LABELS]
        flags = ["--no-recurse", "--action-offline-mode", "--no-cache-server", "--no-skip-checkout", "--rm"]
        texts = [path.read_text() for path in (folder / "plan").rglob("*.yml")]
        played = {match.groups() for text in texts for match in USES.finditer(text)}
        flags += [f"--local-repository={name}@{sha}={PLAYS / PLAYED[name]}" for name, sha in sorted(played)]
        if self.options.image:
            # Containers see this host's folders at the same paths
            folders = (self.options.root, os.environ["LOOP_CACHE"], *self.options.mount)
            volumes = " ".join(f"--volume={folder}:{folder}" for folder in folders)
            flags += ["--network=host", f"--container-options={volumes}"]
        return [self.options.act, run["event"], *(f"--{k}={v}" for k, v in options.items()), *labels, *flags]

    def _environment(self, run: Record) -> dict[str, str]:
        """Return the environment variables of a run's jobs that differ from act's own values."""
        return {
            "GITHUB_REPOSITORY": run["repository"],
            **dict.fromkeys(("GITHUB_SERVER_URL", "GITHUB_API_URL", "LOOP_GITHUB_API_URL"), self.hosting.url),
            "LOOP_GITHUB_STEP_SUMMARY": f"{self.folder(run)}/summary.md",
            "STAND_IN_ARTIFACTS": f"{self.folder(run)}/artifacts",
            "GITHUB_RUN_ID": str(run["id"]),
            "GITHUB_RUN_NUMBER": str(run["run_number"]),
            "GITHUB_RUN_ATTEMPT": "1",
            "GITHUB_REF": run["ref"],
            "SHA_REF": run["commit"],  # act sets GITHUB_SHA from this variable
            # A job on this host inherits the stand-in's variables; a job in a container gets only these.
            **({k: v for k, v in os.environ.items() if k.startswith(OURS)} if self.options.image else {}),
        }

    def _kill(self, run: Record) -> None:
        """Kill every process of a run, found by MARK, because act starts each step in its own session."""
        mark = str(self.folder(run))

        def running() -> list[psutil.Process]:
            found = psutil.process_iter(["environ"])
            return [each for each in found if (each.info["environ"] or {}).get(MARK) == mark]

        while left := running():
            for process in left:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
