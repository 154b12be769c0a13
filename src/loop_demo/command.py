"""The commands `./loop demo` and `./loop github`, which need no account and no cluster.

`./loop github` runs the stand-in for GitHub in the background. While it runs, Git reaches it under the fork's
own URL, so a person types the same `git push` as with GitHub.
"""

import json
import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loop.cli.arguments import models
from loop.core import paths
from loop.core.errors import LoopError, Rejected
from loop.core.files import read_json, write_text
from loop.core.git import Git, GitError

if TYPE_CHECKING:
    from loop.core.github import GitHub

FOLDER = "build/github"  # where the stand-in stores repositories, runs and its log


@click.command()
@click.option(
    "--source",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Parquet file to run on instead of the model's own source.",
)
@click.option("--model", shell_complete=models, help="Model to use.  [default: the first of params.yaml]")
def demo(source: Path | None, model: str | None) -> None:
    """Run the whole loop on this machine.

    It trains, releases, promotes and watches a model in a clone below build/demo, with a stand-in for GitHub.
    Your branch and your work tree stay as they are.
    """
    from loop_demo.play import play

    play(paths.root(), source, model)


@click.group()
def github() -> None:
    """Run a stand-in for GitHub on this machine.

    Use it to try pull requests and workflows without an account: start it, push a branch, propose it, merge.
    """


@github.command()
def start() -> None:
    """Start the stand-in for GitHub in the background.

    It begins with this clone's main, and Git in this clone then reaches it by the fork's own URL.
    """
    from loop.core import repository
    from loop.core.github import MAIN
    from loop_demo.hub import launched

    root = paths.root()
    own, git, folder = repository.read(root), Git(root), root / FOLDER
    if not own.named:
        fix = "./loop init --name --url --registry"
        raise LoopError(f"{repository.PATH} still names the template", fix=fix)
    _stopped(root)
    folder.mkdir(parents=True, exist_ok=True)
    paths.programs()
    environment = {
        "LOOP_ENGINE": "none",  # there is no container registry, so bentos are pinned as artifacts on disk
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
    }
    with (folder / "log.txt").open("ab") as log:
        options = ["--root", str(folder), "--repository", own.slug]
        process, ready = launched(options, log, environment, start_new_session=True)
    url = ready["repositories"][own.slug].replace("//", f"//person:{ready['token']}@")
    facts = {"pid": process.pid, "api": ready["url"], "token": ready["token"], "clone": url}
    write_text(folder / "standin.json", json.dumps(facts))
    git.run("config", f"url.{url}.insteadOf", own.url)
    if not git.run("ls-remote", url, f"refs/heads/{MAIN}"):
        # Push into the stand-in's folder, because a push over HTTP would start workflows, and a new fork at
        # GitHub starts none.
        bare = folder / "repositories" / f"{own.slug}.git"
        git.run("push", "--quiet", str(bare), f"HEAD:refs/heads/{MAIN}")
    click.echo(f"the stand-in for GitHub answers at {own.url} until you type: ./loop github stop")
    click.echo(f"each workflow's log is in {FOLDER}/runs")


@github.command()
def stop() -> None:
    """Stop the stand-in for GitHub.

    Repositories, pull requests and runs are kept for the next start.
    """
    click.echo("stopped" if _stopped(paths.root()) else "the stand-in was not running")


@github.command()
def propose() -> None:
    """Open a pull request and wait for its checks.

    Push the branch that you are on first. It prints the report, and ends with 4 if a check fails.
    """
    from loop_demo.console import Console

    root = paths.root()
    git, hub = Git(root), _hub(root)
    branch = git.run("rev-parse", "--abbrev-ref", "HEAD")
    title, body = (git.run("log", "-1", f"--format={part}") for part in ("%s", "%b"))
    before = _runs(hub)  # as of now, because some of the next runs fail at once
    number = int(hub.pull_request(branch, title, body)["number"])
    click.echo(f"pull request #{number}: {title}")
    try:
        _wait(hub, before)
    finally:
        comments = hub.call("GET", f"/issues/{number}/comments")
        report, path = str(comments[-1]["body"]) if comments else "", f"{FOLDER}/pull-request-{number}.md"
        write_text(root / path, report)
        # A terminal cannot show the rest, which has charts and folded lists
        Console().markdown(report.partition("\n### ")[0])
        click.echo(f"the whole report: {path}")


@github.command()
@click.argument("number", type=int, required=False)
def merge(number: int | None) -> None:
    """Merge a pull request and wait for what it starts.

    Without NUMBER it merges the only one that is open. It ends with 4 if a workflow that this starts fails.
    """
    hub = _hub(paths.root())
    if number is None:
        pulls = _pull_requests(hub)
        if len(pulls) != 1:
            listed = "; ".join(pulls.values()) or "none"
            fix = "./loop github merge NUMBER" if pulls else "./loop github propose"
            raise LoopError(f"open pull requests: {listed}", fix=fix)
        [number] = pulls
    before = _runs(hub)  # as of now, because some of the next runs fail at once
    hub.call("PUT", f"/pulls/{number}/merge", json={"merge_method": "squash"})
    click.echo(f"merged: #{number}")
    _wait(hub, before)
    for opened in _pull_requests(hub).values():
        click.echo(f"open: {opened}")


def _stopped(root: Path) -> bool:
    """Stop the stand-in and let Git use the fork's real URL again; return whether it was running."""
    path = root / FOLDER / "standin.json"
    if not path.is_file():
        return False
    facts = read_json(path)
    with suppress(GitError):  # a person may have removed the setting
        Git(root).run("config", "--remove-section", f"url.{facts['clone']}")
    path.unlink()
    if serves := _serves(facts["api"]):  # otherwise another program may have its process id now
        os.kill(facts["pid"], signal.SIGTERM)
    return serves


def _hub(root: Path) -> "GitHub":
    """Return a client for the fork at the stand-in, as its owner; LoopError if it is not running."""
    from loop.core import repository
    from loop.core.github import GitHub

    path = root / FOLDER / "standin.json"
    if not path.is_file() or not _serves((facts := read_json(path))["api"]):
        raise LoopError("no stand-in for GitHub is running for this clone", fix="./loop github start")
    return GitHub(facts["api"], repository.read(root).slug, facts["token"])


def _serves(url: str) -> bool:
    """Return whether a server answers at a URL."""
    import httpx

    with suppress(httpx.HTTPError):
        httpx.get(url, timeout=5, trust_env=False)
        return True
    return False


def _pull_requests(hub: "GitHub") -> dict[int, str]:
    """Return each open pull request: its number, and a text with its number and title."""
    found = hub.call("GET", "/pulls", params={"state": "open"})
    return {int(pull["number"]): f"#{pull['number']} {pull['title']}" for pull in found}


def _runs(hub: "GitHub") -> list[dict[str, Any]]:
    """Return the newest workflow runs."""
    return list(hub.call("GET", "/actions/runs", params={"per_page": 100})["workflow_runs"])


def _wait(hub: "GitHub", before: list[dict[str, Any]]) -> None:
    """Wait until all workflow runs have ended, and print each end after `before`; Rejected if one failed."""
    ended = {run["id"] for run in before if run["status"] == "completed"}
    failed, calm = [], 0
    while calm < 2:  # noqa: PLR2004 - checks in a row, because the end of a run may start another one
        time.sleep(1)
        runs = _runs(hub)
        for run in reversed(runs):
            if run["status"] == "completed" and run["id"] not in ended:
                ended.add(run["id"])
                click.echo(f"{run['conclusion']:9} {run['name']}: {run['display_title']}")
                if run["conclusion"] not in {"success", "cancelled"}:
                    failed.append(f"{FOLDER}/runs/{run['id']}/log.txt")
        calm = calm + 1 if all(run["status"] == "completed" for run in runs) else 0
    if failed:
        raise Rejected("a workflow has failed", fix=f"read {', '.join(failed)}")
