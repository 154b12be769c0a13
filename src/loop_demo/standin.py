"""Runs the stand-in for GitHub in the background, for people without an account at GitHub.

While the stand-in runs, Git reaches it under the fork's own URL, so a person types the same `git push` as
with GitHub.
"""

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

from loop.core import paths, repository
from loop.core.errors import LoopError
from loop.core.files import read_json, write_text
from loop.core.git import Git, GitError
from loop.core.github import MAIN, GitHub
from loop_demo.hub import launched

LONGEST = 3600  # seconds to wait for a workflow run
START = "./loop github start"


def folder(root: Path) -> Path:
    """Return the folder in which the stand-in stores repositories, runs and its log."""
    return root / "build" / "github"


def start(root: Path) -> str:
    """Start the stand-in with the fork's repository and its main; return the URL at which Git reaches it.

    LoopError if the fork has no name of its own yet, or if the stand-in does not start.
    """
    own, git = repository.read(root), Git(root)
    if not own.named:
        fix = "./loop init --name --url --registry"
        raise LoopError(f"{repository.PATH} still names the template", fix=fix)
    stop(root)
    place = folder(root)
    place.mkdir(parents=True, exist_ok=True)
    paths.programs()
    environment = {
        "LOOP_ENGINE": "none",  # there is no container registry, so bentos are pinned as artifacts on disk
        "MLFLOW_TRACKING_URI": f"sqlite:///{place}/mlflow.db",
    }
    options = ["--root", str(place), "--repository", own.slug]
    with (place / "log.txt").open("ab") as log:
        process, ready = launched(options, log, environment, start_new_session=True)
    url = ready["repositories"][own.slug].replace("//", f"//person:{ready['token']}@")
    facts = {"pid": process.pid, "api": ready["url"], "token": ready["token"], "clone": url}
    write_text(place / "standin.json", json.dumps(facts))
    git.run("config", f"url.{url}.insteadOf", own.url)
    if not git.run("ls-remote", url, f"refs/heads/{MAIN}"):
        # Push into the stand-in's folder, because a push over HTTP would start workflows, and a new fork at
        # GitHub starts none.
        bare = place / "repositories" / f"{own.slug}.git"
        git.run("push", "--quiet", str(bare), f"HEAD:refs/heads/{MAIN}")
    return own.url


def stop(root: Path) -> bool:
    """Stop the stand-in and let Git use the fork's real URL again; return whether it was running."""
    path = folder(root) / "standin.json"
    if not path.is_file():
        return False
    facts = read_json(path)
    with suppress(GitError):  # a person may have removed the setting
        Git(root).run("config", "--remove-section", f"url.{facts['clone']}")
    path.unlink()
    if not _serves(facts["api"]):
        return False  # the stand-in has ended by itself, and another program may have its process id now
    os.kill(facts["pid"], signal.SIGTERM)
    return True


def hub(root: Path) -> GitHub:
    """Return a client for the fork at the stand-in, as its owner; LoopError if it is not running."""
    path = folder(root) / "standin.json"
    if not path.is_file() or not _serves((facts := read_json(path))["api"]):
        raise LoopError("no stand-in for GitHub is running for this clone", fix=START)
    return GitHub(facts["api"], repository.read(root).slug, facts["token"])


def waited(github: GitHub) -> list[dict[str, Any]]:
    """Wait until no workflow runs or is about to start; print each run that ends, and return them."""
    before = {run["id"] for run in _runs(github) if run["status"] == "completed"}
    ended: dict[int, dict[str, Any]] = {}
    deadline, calm = time.monotonic() + LONGEST, 0
    while time.monotonic() < deadline:
        runs = _runs(github)
        for run in reversed(runs):
            if run["status"] == "completed" and run["id"] not in before | ended.keys():
                ended[run["id"]] = run
                print(f"{run['conclusion']:9} {run['name']}: {run['display_title']}", flush=True)
        calm = calm + 1 if all(run["status"] == "completed" for run in runs) else 0
        if calm > 1:  # two checks in a row, because the end of a run may start another one
            return list(ended.values())
        time.sleep(1)
    raise LoopError(f"a workflow did not end within {LONGEST} s", fix="read its log in build/github/runs")


def report(github: GitHub, number: int) -> str:
    """Return CI's report on a pull request; empty if there is none."""
    found = github.call("GET", f"/issues/{number}/comments")
    return str(found[-1]["body"]) if found else ""


def pull_requests(github: GitHub) -> Iterator[tuple[int, str]]:
    """Yield the number and title of each open pull request."""
    for pull in github.call("GET", "/pulls", params={"state": "open"}):
        yield int(pull["number"]), str(pull["title"])


def merge(github: GitHub, number: int | None) -> int:
    """Merge a pull request, or the only open one, and return its number.

    LoopError if no number is given and not exactly one pull request is open.
    """
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
    """Return the newest runs of all workflows, the newest first."""
    return list(github.call("GET", "/actions/runs", params={"per_page": 100})["workflow_runs"])


def _serves(url: str) -> bool:
    """Return whether a server answers at a URL."""
    try:
        httpx.get(url, timeout=5, trust_env=False)
    except httpx.HTTPError:
        return False
    return True
