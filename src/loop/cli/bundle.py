"""From the job that builds to the job that publishes: `loop bundle, unbundle`."""

import os
from pathlib import Path

import click

trained_option = click.option("--trained", is_flag=True, help="only what the stages made, for `land`")


@click.command
@click.argument("model", required=False)
@trained_option
def bundle(model: str | None, trained: bool) -> None:
    """Pack what publishing MODEL needs of what was built here; without MODEL, the monitor's image alone.

    Outputs: `sha256`, which `unbundle` is given; `bundle`, the file; `folder`, where `unbundle` looks for it.
    """
    from loop.core import actions, paths
    from loop.delivery import bundle as bundles

    root = paths.root()
    packed = bundles.pack(root, model, trained=trained)
    path = packed.path.relative_to(root)
    actions.output(sha256=packed.sha256, bundle=path, folder=path.parent)
    click.echo(f"{path}: {packed.path.stat().st_size / 1e6:.1f} MB, sha256 {packed.sha256}")


@click.command
@click.argument("model", required=False)
@click.option("--sha256", required=True, metavar="HEX", help="what `bundle` has said of the file")
@click.option("--file", type=click.Path(path_type=Path), help="[default: where `bundle` writes it]")
@trained_option
def unbundle(model: str | None, sha256: str, file: Path | None, trained: bool) -> None:
    """Put in place what `bundle` packed on another machine; rejects (4) what is not that.

    MODEL gets its outputs in data/<package>/, its records in build/<package>/, and its image. Nothing is run.
    Output `registry`: the host that images are pushed to, by this checkout; empty where none are.
    """
    from loop.core import actions, paths, repository
    from loop.delivery import bundle as bundles

    root = paths.root()
    new = bundles.unpack(root, model, sha256, trained=trained, file=file)
    own = repository.read(root)
    none = os.environ.get("LOOP_ENGINE") == "none" or not own.named
    actions.output(registry="" if none else own.registry.partition("/")[0])
    click.echo(f"{model or 'monitor'}: unpacked, every part checked")
    for name in new:
        said = f"{name} is not what Git has: the job that built has trained the model"
        click.secho(said, fg="yellow", err=True)
