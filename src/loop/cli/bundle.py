"""Carries what one job has built to the job that publishes it: `loop bundle, unbundle`."""

import os
from pathlib import Path

import click

from loop.cli.arguments import optional_model

trained_option = click.option("--trained", is_flag=True, help="Only what the stages made, for `land`.")


@click.command
@optional_model
@trained_option
def bundle(model: str | None, trained: bool) -> None:
    """Pack what was built here for the job that publishes it.

    The job that builds a model runs the model's own code, so it has no right to publish. Another job has the
    right, runs none of that code, and unpacks this file with `unbundle`. Without MODEL, the image of judge
    and monitor is packed. Step outputs: sha256, for `unbundle`; bundle, the file; folder, where it lies.
    """
    from loop.core import actions, paths
    from loop.core.files import sha256
    from loop.delivery import bundle

    root = paths.root()
    packed = bundle.pack(root, model, trained=trained)
    path, digest = packed.relative_to(root), sha256(packed)
    actions.output(sha256=digest, bundle=path, folder=path.parent)
    click.echo(f"{path}: {packed.stat().st_size / 1e6:.1f} MB, sha256 {digest}")


@click.command
@optional_model
@click.option("--sha256", required=True, metavar="HEX", help="The SHA-256 that `bundle` printed.")
@click.option(
    "--file", type=click.Path(path_type=Path), help="The file.  [default: where `bundle` writes it]"
)
@trained_option
def unbundle(model: str | None, sha256: str, file: Path | None, trained: bool) -> None:
    """Unpack what `bundle` packed in another job.

    It runs nothing. It ends with 4 if the file is not the one that `bundle` wrote, or does not fit this
    checkout. With MODEL it writes data/<package>/, build/<package>/ and the image. Without MODEL it writes
    the image of judge and monitor. Step output: registry, the host that images are pushed to; empty if
    nothing is pushed.
    """
    from loop.core import actions, paths, repository
    from loop.delivery import bundle

    root = paths.root()
    new = bundle.unpack(root, model, sha256, trained=trained, file=file)
    own = repository.read(root)
    none = os.environ.get("LOOP_ENGINE") == "none" or not own.named
    actions.output(registry="" if none else own.registry.partition("/")[0])
    click.echo(f"{model or 'monitor'}: unpacked, every part checked")
    for name in new:
        said = f"{name} differs from the one in Git, because the job that built has trained the model"
        click.secho(said, fg="yellow", err=True)
