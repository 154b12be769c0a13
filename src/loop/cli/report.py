"""`loop report`: writes static pages about every model."""

from pathlib import Path

import click

from loop.cli.arguments import models_argument


@click.command
@models_argument
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder to write.  [default: build/report]",
)
@click.option("--branch", default="main", show_default=True, help="Branch of origin that has the releases.")
def report(models: tuple[str, ...], out: Path | None, branch: str) -> None:
    """Write static pages about every model.

    They show metrics, plots, data checks, the monitor's last report and the releases, and need no server.
    Without MODEL they are about every model of params.yaml.
    """
    from loop.core import paths
    from loop.report.site import build

    root = paths.root()
    index = build(root, out or root / "build" / "report", models, branch)
    click.echo(f"{index}: open it in a browser")
