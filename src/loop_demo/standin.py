"""GitHub for a clone whose owner has no account: the stand-in, running in the background until it is stopped.

While it runs, Git reaches it under the fork's own URL, so `git push` is typed as it will be at GitHub.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

from loop.core import programs, repository
from loop.core.errors import LoopError
from loop.core.files import read_json, write_text
from loop.core.git import Git, GitError
from loop.core.github import MAIN, GitHub

LONGEST = 3600  # seconds until a run is given up
START = "./loop github start"


def folder(root: Path) -> Path:
    """Where the stand-in keeps repositories, runs and its log."""
    return root / "build" / "github"


def start(root: Path) -> str:
    """Start the stand-in with the fork's repository, main included; returns the URL that Git reaches there.

    LoopError where the fork has no name of its own yet, or the stand-in does not start.
    """
    own, git = repository.read(root), Git(root)
    if not own.named:
        raise LoopError(
            f"{repository.PATH} still names the template", fix="./loop init --name --url --registry"
        )
    stop(root)
    place = folder(root)
    place.mkdir(parents=True, exist_ok=True)
    programs.folder()
    environment = {
        "LOOP_ENGINE": "none",  # there is no registry: bentos are pinned as artifacts on disk
        "MLFLOW_TRACKING_URI": f"sqlite:///{place}/mlflow.db",
    }
    command = [sys.executable, "-m", "loop_demo.github", "--root", str(place), "--repository", own.slug]
    with (place / "log.txt").open("ab") as log:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=log,
            env={**os.environ, **environment},
            start_new_session=True,
        )
    ready = json.loads(process.stdout.readline() or "null")  # type: ignore[union-attr]
    if ready is None:
        raise LoopError("the stand-in for GitHub did not start", fix=f"{place}/log.txt says why")
    url = ready["repositories"][own.slug].replace("//", f"//person:{ready['token']}@")
    facts = {"pid": process.pid, "api": ready["url"], "token": ready["token"], "clone": url}
    write_text(place / "standin.json", json.dumps(facts))
    git.run("config", f"url.{url}.insteadOf", own.url)
    if not git.run("ls-remote", url, f"refs/heads/{MAIN}"):
        # Not over HTTP, because at GitHub a new fork starts no workflow.
        bare = place / "repositories" / f"{own.slug}.git"
        git.run("push", "--quiet", str(bare), f"HEAD:refs/heads/{MAIN}")
    return own.url


def stop(root: Path) -> bool:
    """End the stand-in and let Git reach the fork's URL again; returns whether one was running."""
    path = folder(root) / "standin.json"
    if not path.is_file():
        return False
    facts = read_json(path)
    with suppress(GitError):  # a person may have taken it out
        Git(root).run("config", "--remove-section", f"url.{facts['clone']}")
    path.unlink()
    if not _serves(facts["api"]):
        return False  # it ended by itself, and its process id may be another program's by now
    os.kill(facts["pid"], signal.SIGTERM)
    return True


def hub(root: Path) -> GitHub:
    """The fork at the stand-in, as its owner; LoopError where none is running."""
    path = folder(root) / "standin.json"
    if not path.is_file() or not _serves((facts := read_json(path))["api"]):
        raise LoopError("no stand-in for GitHub is running for this clone", fix=START)
    return GitHub(facts["api"], repository.read(root).slug, facts["token"])


def waited(github: GitHub, tell: Callable[[dict[str, Any]], None]) -> list[dict[str, Any]]:
    """Wait until no workflow runs or is about to; returns the runs that have ended, each told at once."""
    before = {run["id"] for run in _runs(github) if run["status"] == "completed"}
    ended: dict[int, dict[str, Any]] = {}
    deadline, calm = time.monotonic() + LONGEST, 0
    while time.monotonic() < deadline:
        runs = _runs(github)
        for run in reversed(runs):
            if run["status"] == "completed" and run["id"] not in before | ended.keys():
                ended[run["id"]] = run
                tell(run)
        calm = calm + 1 if all(run["status"] == "completed" for run in runs) else 0
        if calm > 1:  # the end of one run may start the next
            return list(ended.values())
        time.sleep(1)
    raise LoopError(f"a workflow did not end within {LONGEST} s", fix="look at its log in build/github/runs")


def report(github: GitHub, number: int) -> str:
    """The comment that CI has left on a pull request; empty where it has left none."""
    found = github.call("GET", f"/issues/{number}/comments")
    return str(found[-1]["body"]) if found else ""


def pull_requests(github: GitHub) -> Iterator[tuple[int, str]]:
    """Number and title of each open pull request."""
    for pull in github.call("GET", "/pulls", params={"state": "open"}):
        yield int(pull["number"]), str(pull["title"])


def merge(github: GitHub, number: int | None) -> int:
    """Merge a pull request, or the only open one; returns its number. LoopError unless one is meant."""
    if number is None:
        pulls = list(pull_requests(github))
        if len(pulls) != 1:
            listed = "; ".join(f"#{found} {title}" for found, title in pulls)
            raise LoopError(
                f"{len(pulls)} pull requests are open: {listed}" if pulls else "no pull request is open",
                fix="./loop github merge NUMBER" if pulls else "./loop github propose",
            )
        number = pulls[0][0]
    github.call("PUT", f"/pulls/{number}/merge", json={"merge_method": "squash"})
    return number


def _runs(github: GitHub) -> list[dict[str, Any]]:
    """The newest runs of all workflows, the newest first."""
    return list(github.call("GET", "/actions/runs", params={"per_page": 100})["workflow_runs"])


def _serves(url: str) -> bool:
    """Whether something answers at a URL."""
    try:
        httpx.get(url, timeout=5, trust_env=False)
    except httpx.HTTPError:
        return False
    return True
