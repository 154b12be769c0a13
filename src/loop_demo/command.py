"""`loop demo`: runs the whole loop on this machine."""

from pathlib import Path

import click

from loop.cli.arguments import models


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
