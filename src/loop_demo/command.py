"""The command `./loop demo`, which plays the whole loop on this machine."""

from pathlib import Path

import click


@click.command()
@click.option(
    "--source",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="play with the rows of this Parquet file instead of the model's own source",
)
@click.option("--model", help="[default: the first of params.yaml]")
def demo(source: Path | None, model: str | None) -> None:
    """Play the whole loop in a scratch clone (build/demo); your branch stays as it is."""
    from loop.core import paths
    from loop_demo.play import play

    play(paths.root(), source, model)
