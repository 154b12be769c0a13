"""`demo`: the whole circle, on this machine."""

from pathlib import Path

import click


@click.command()
@click.option(
    "--source",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="turn on a Parquet file of published transactions, not on the simulator",
)
@click.option("--model", help="[default: the first of params.yaml]")
def demo(source: Path | None, model: str | None) -> None:
    """Turn the whole circle in a scratch clone (build/demo); your branch stays as it is."""
    from loop.core import paths
    from loop_demo.play import play

    play(paths.root(), source, model)
