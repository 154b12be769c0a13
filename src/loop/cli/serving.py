"""Builds and serves trained models: `loop bento, rehearse, image, monitor-image, push-image, serve`."""

from pathlib import Path

import click

from loop.cli.arguments import environment_option, model_argument, optional_model
from loop.core.project import Project


@click.command
@model_argument
@environment_option(help="Environment whose `serve.device` it is built for.  [default: the first one]")
def bento(model: str, environment: str | None) -> None:
    """Build the bento of the candidate.

    A bento is a folder with the model, the code that serves it and its locked packages. It is built once for
    all environments that serve on the same device. The commands from `rehearse` to `release` use the bento
    that was built last. Step outputs: key, which is the release key, and bento.
    """
    from loop.core import actions, paths, plain
    from loop.core.errors import LoopError
    from loop.packaging import bento

    project = Project(paths.root(), model)
    if environment and environment not in (known := plain.environments(project.root)):
        raise LoopError(
            f"{plain.OVERLAYS} has no environment {environment!r}", fix=f"use one of {', '.join(known)}"
        )
    built = bento.build(project, device=plain.device(project, environment))
    actions.output(key=built.key, bento=built.tag)
    click.echo(f"{built.tag}: {built.path}")


@click.command
@model_argument
def rehearse(model: str) -> None:
    """Test the bento by replaying test rows.

    It serves the bento and the one of production on this machine, sends both the same rows, and compares
    scores, failures and latency. It ends with 4 if the bento fails, is too slow, or answers otherwise than
    the model did in training.
    """
    from loop.core import actions, paths
    from loop.packaging import rehearse

    result = rehearse.rehearse(Project(paths.root(), model))
    actions.summary(rehearse.table(result))
    click.echo(rehearse.table(result))


@click.command
@model_argument
def image(model: str) -> None:
    """Build the image of the bento, without pushing it.

    It needs docker, podman or buildah. Where none runs, or `init` has named no registry, the bento itself is
    stored on this machine as an OCI artifact, and releases pin that. Step outputs: image, digest, kind.
    """
    from loop.core import actions, paths
    from loop.packaging import bento, image
    from loop.packaging.engine import engine
    from loop.packaging.layout import table

    program = engine() if _named() else None
    if not program:
        _warn("releases pin the bento itself, as an OCI artifact on disk")
    project = Project(paths.root(), model)
    made = image.make(project, bento.built(project), program)
    actions.output(image=made["image"], digest=made["digest"], kind=made["kind"])
    if layers := made.get("layers"):
        click.echo(table(layers))
    click.echo(f"{made['kind']}: {made['image']}")


@click.command("monitor-image")
def monitor_image() -> None:
    """Build the image of judge and monitor, without pushing it.

    Nothing is built if the registry has an image that our release has attested for the same code. Step
    outputs: image, digest, kind.
    """
    from loop.core import actions, paths
    from loop.packaging import monitor_image
    from loop.packaging.engine import engine

    program = engine() if _named() else None
    if not program:
        _warn("neither judge nor monitor runs in a cluster")
    made = monitor_image.make(paths.root(), program)
    actions.output(image=made["image"] or "", digest=made["digest"] or "", kind=made["kind"])
    click.echo(f"{made['kind']}: {made['image'] or made['key']}")


@click.command("push-image")
@optional_model
def push_image(model: str | None) -> None:
    """Push an image to the registry.

    With MODEL it is the image that `image` has built; without, the one of `monitor-image`. Nothing is pushed
    if the registry has an image of the same key that our release has attested, or if none was built. Step
    outputs: image, digest, kind.
    """
    from loop.core import actions, paths
    from loop.packaging import image, monitor_image

    root = paths.root()
    served = image.push(Project(root, model)) if model else monitor_image.push(root)
    actions.output(image=served["image"] or "", digest=served["digest"] or "", kind=served["kind"])
    told = "served as" if served["kind"] == "container" else f"nothing to push: {served['kind']}"
    earlier = ", which an earlier release of the same key has pushed and attested"
    click.echo(f"{told} {served['image'] or ''}".strip() + (earlier if served.get("attested") else ""))


@click.command
@model_argument
@click.option("--image", "digest", metavar="DIGEST", help="Digest (sha256:…) of an artifact on this machine.")
@click.option("--key", metavar="KEY", help="Release key of a bento that was built here.")
@click.option("--port", default=3000, show_default=True, help="Port to listen at.")
@click.option(
    "--log-dir",
    type=click.Path(path_type=Path),
    envvar="PREDICTION_LOG_DIR",
    help="Folder for the prediction log.  [default: no log]",
)
def serve(model: str, digest: str | None, key: str | None, port: int, log_dir: Path | None) -> None:
    """Serve a bento on this machine, until Ctrl-C.

    It serves the bento that was built last, by the same server as in production; --key or --image takes
    another one.
    """
    from loop.core import paths
    from loop.packaging import bento
    from loop.packaging.image import fetch
    from loop.packaging.process import Server

    if digest:
        path = fetch(model, digest)
    elif key:
        path = bento.checked(bento.path_of(model, key), model)
    else:
        path = bento.built(Project(paths.root(), model)).path
    with Server(path, port, log_dir=log_dir) as server:
        click.echo(f"{server.url}/predict, ready after {server.ready_after:.1f} s; Ctrl-C ends it")
        server.process.wait()
        click.echo(server.output())


def _named() -> bool:
    """Whether this fork has a registry of its own to push to."""
    from loop.core import paths, repository

    return repository.read(paths.root()).named


def _warn(instead: str) -> None:
    """Warn that no image is built, and why: on the console, at the workflow's run, and in its summary."""
    from loop.core import actions

    why = "neither docker, podman nor buildah runs here"
    if not _named():
        why = "this fork has no registry yet; ./loop init --registry REGISTRY names one"
    actions.warning("No image", f"{why}; until then {instead}")
