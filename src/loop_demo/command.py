"""The commands `./loop demo` and `./loop github`, which need no account and no cluster."""

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
    help="Parquet file to run on instead of the model's own source.",
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
    """Run a stand-in for GitHub on this machine.

    Use it to try pull requests and workflows without an account: start it, push a branch, propose it, merge.
    """


@github.command()
def start() -> None:
    """Start the stand-in for GitHub in the background.

    It begins with this clone's main, and Git in this clone then reaches it by the fork's own URL.
    """
    from loop.core import paths
    from loop_demo import standin

    root = paths.root()
    url = standin.start(root)
    click.echo(f"the stand-in for GitHub answers at {url} until you type: ./loop github stop")
    click.echo(f"each workflow's log is in {standin.folder(root).relative_to(root)}/runs")


@github.command()
def stop() -> None:
    """Stop the stand-in for GitHub.

    Repositories, pull requests and runs are kept for the next start.
    """
    from loop.core import paths
    from loop_demo import standin

    click.echo("stopped" if standin.stop(paths.root()) else "the stand-in was not running")


@github.command()
def propose() -> None:
    """Open a pull request and wait for its checks.

    It is for the branch that you are on; push that first. It prints the report, and ends with 4 if a check
    fails.
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
        # A terminal cannot show the rest, which has charts and folded lists
        Console().markdown(report.partition("\n### ")[0])
        click.echo(f"the whole report: {path.relative_to(root)}")


@github.command()
@click.argument("number", type=int, required=False)
def merge(number: int | None) -> None:
    """Merge a pull request and wait for what it starts.

    Without NUMBER it merges the only one that is open. It ends with 4 if a workflow that this starts fails.
    """
    from loop.core import paths
    from loop_demo import standin

    hub = standin.hub(paths.root())
    click.echo(f"merged: #{standin.merge(hub, number)}")
    _wait(hub)
    for opened, title in standin.pull_requests(hub):
        click.echo(f"open: #{opened} {title}")


def _wait(hub: "GitHub") -> None:
    """Wait until no workflow runs, and print how each has ended; Rejected if one has failed."""
    from loop.core.errors import Rejected
    from loop_demo import standin

    runs = standin.waited(hub)
    if failed := [run["id"] for run in runs if run["conclusion"] not in {"success", "cancelled"}]:
        logs = ", ".join(f"build/github/runs/{run}/log.txt" for run in failed)
        raise Rejected("a workflow has failed", fix=f"read {logs}")
