"""`loop demo`: runs the whole loop on this machine."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from loop.cli.arguments import models

if TYPE_CHECKING:
    from loop.core.github import GitHub


@click.command()
@click.option(
    "--source",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Parquet file to run on instead of the simulator.",
)
@click.option(
    "--model", shell_complete=models, help="Model to run it with.  [default: the first of params.yaml]"
)
def demo(source: Path | None, model: str | None) -> None:
    """Run the whole loop on this machine.

    It trains, releases, promotes and watches a model in a clone below build/demo, with a stand-in for GitHub.
    Your branch and your work tree stay as they are.
    """
    from loop.core import paths
    from loop_demo.play import play

    play(paths.root(), source, model)


@click.group()
def github() -> None:
    """Play GitHub on this machine: pull requests and workflows, without an account."""


@github.command()
def start() -> None:
    """Start it in the background, with this clone's main; Git then reaches it by the fork's own URL."""
    from loop.core import paths
    from loop_demo import standin

    root = paths.root()
    url = standin.start(root)
    click.echo(f"{url} is played on this machine until: ./loop github stop")
    click.echo(f"each workflow's log is in {standin.folder(root).relative_to(root)}/runs")


@github.command()
def stop() -> None:
    """Stop it; repositories, pull requests and runs are kept for the next start."""
    from loop.core import paths
    from loop_demo import standin

    click.echo("stopped" if standin.stop(paths.root()) else "it was not running")


@github.command()
def propose() -> None:
    """Open a pull request for the branch that you have pushed; wait for its checks, and print their verdict.

    Exit code 4 where a check fails.
    """
    from loop.core import paths
    from loop.core.files import write_text
    from loop.core.git import Git
    from loop_demo import standin
    from loop_demo.console import Console

    root = paths.root()
    git, hub = Git(root), standin.hub(root)
    branch = git.run("rev-parse", "--abbrev-ref", "HEAD")
    title, body = (git.run("log", "-1", f"--format={part}") for part in ("%s", "%b"))
    number = int(hub.pull_request(branch, title, body)["number"])
    click.echo(f"pull request #{number}: {title}")
    try:
        _wait(hub)
    finally:
        report, path = standin.report(hub, number), standin.folder(root) / f"pull-request-{number}.md"
        write_text(path, report)
        Console().markdown(report.partition("\n### ")[0])  # charts and folded lists are for GitHub's page
        click.echo(f"the whole report: {path.relative_to(root)}")


@github.command()
@click.argument("number", type=int, required=False)
def merge(number: int | None) -> None:
    """Merge pull request NUMBER, or the only open one, and wait for the workflows that this starts.

    Exit code 4 where one of them fails.
    """
    from loop.core import paths
    from loop_demo import standin

    hub = standin.hub(paths.root())
    click.echo(f"merged: #{standin.merge(hub, number)}")
    _wait(hub)
    for opened, title in standin.pull_requests(hub):
        click.echo(f"open: #{opened} {title}")


def _wait(hub: "GitHub") -> None:
    """Wait for the workflows that run; print each one's end. LoopError where one has failed."""
    from loop.core.errors import Rejected
    from loop_demo import standin

    runs = standin.waited(
        hub, lambda run: click.echo(f"{run['conclusion']:9} {run['name']}: {run['display_title']}")
    )
    if failed := [run["id"] for run in runs if run["conclusion"] not in {"success", "cancelled"}]:
        logs = ", ".join(f"build/github/runs/{run}/log.txt" for run in failed)
        raise Rejected("a workflow has failed", fix=f"look into {logs}")
