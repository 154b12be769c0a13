"""`loop report`: how every model is, as a site that needs no server."""

from pathlib import Path

import click


@click.command
@click.argument("models", metavar="[MODEL]...", nargs=-1)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="[default: build/report]")
@click.option("--branch", default="main", show_default=True, help="Origin's branch that tells the releases.")
def report(models: tuple[str, ...], out: Path | None, branch: str) -> None:
    """Write one static site from the last run: every model of params.yaml, or those named."""
    from loop.core import paths
    from loop.report.site import build

    root = paths.root()
    index = build(root, out or root / "build" / "report", models, branch)
    click.echo(f"{index}: open it in a browser")
