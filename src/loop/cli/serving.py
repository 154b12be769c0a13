"""From a trained model to a served one: `loop bento, rehearse, image, monitor-image, push-image, serve`."""

from pathlib import Path

import click


@click.command
@click.argument("model")
@click.option(
    "--environment",
    type=click.Choice(["dev", "staging", "production"]),
    default="dev",
    show_default=True,
    help="Whose `serve.device` it is built for.",
)
def bento(model: str, environment: str) -> None:
    """Build the model's bento as an environment serves it, unless this very one was built before.

    One bento is for every environment that has the same `serve.device`. The commands after it go by it.
    """
    from loop.core import actions, paths, plain
    from loop.packaging import bento as bentos

    root = paths.root()
    built = bentos.build(root, model, device=plain.device(root, model, environment))
    actions.output(key=built.key, bento=built.tag)
    click.echo(f"{built.tag}: {built.path}")


@click.command
@click.argument("model")
def rehearse(model: str) -> None:
    """Serve the bento beside production's, replay held-out rows, compare; rejects (4) a bad one."""
    from loop.core import actions, paths
    from loop.packaging.rehearse import rehearse as play
    from loop.packaging.rehearse import table

    result = play(paths.root(), model)
    actions.summary(table(result))
    click.echo(table(result))


@click.command
@click.argument("model")
def image(model: str) -> None:
    """Make what Git pins by digest: a container, or where no engine runs the bento as an OCI artifact.

    It needs no right to push: `push-image` does that.
    """
    from loop.core import actions, paths
    from loop.packaging import bento as bentos
    from loop.packaging import image as images
    from loop.packaging.engine import engine
    from loop.packaging.layout import Layer, table

    program = engine() if _named() else None
    if not program:
        _warn("the bento itself is pinned, as an OCI artifact on disk")
    made = images.make(paths.root(), model, bentos.built(paths.root(), model), program)
    actions.output(image=made["image"], digest=made["digest"], kind=made["kind"])
    if layers := [Layer(**layer) for layer in made.get("layers", [])]:
        click.echo(table(layers))
    click.echo(f"{made['kind']}: {made['image']}")


@click.command("monitor-image")
def monitor_image() -> None:
    """Make the image that runs `judge` and `monitor` in a cluster, unless the registry has ours of its key.

    It needs no right to push: `push-image` does that.
    """
    from loop.core import actions, paths
    from loop.packaging import monitor_image as monitors
    from loop.packaging.engine import engine

    program = engine() if _named() else None
    if not program:
        _warn("no judge, no monitor")
    made = monitors.make(paths.root(), program)
    actions.output(image=made["image"] or "", digest=made["digest"] or "", kind=made["kind"])
    click.echo(f"{made['kind']}: {made['image'] or made['key']}")


@click.command("push-image")
@click.argument("model", required=False)
def push_image(model: str | None) -> None:
    """Push what `image MODEL` has built, or without MODEL what `monitor-image` has, and check what is served.

    Nothing is pushed where the registry has one of the same key that our release has attested, or where no
    engine built an image.
    """
    from loop.core import actions, paths
    from loop.packaging import image as images
    from loop.packaging import monitor_image as monitors

    root = paths.root()
    served = images.push(root, model) if model else monitors.push(root)
    actions.output(image=served["image"] or "", digest=served["digest"] or "", kind=served["kind"])
    told = "served as" if served["kind"] == "container" else f"nothing to push: {served['kind']}"
    earlier = ", which an earlier release of the same key has pushed and attested"
    click.echo(f"{told} {served['image'] or ''}".strip() + (earlier if served.get("attested") else ""))


@click.command
@click.argument("model")
@click.option("--image", "digest", help="Digest of an artifact on this machine (sha256:…).")
@click.option("--key", help="Release key of a bento in the store.")
@click.option("--port", default=3000, show_default=True)
@click.option(
    "--log-dir",
    type=click.Path(path_type=Path),
    envvar="PREDICTION_LOG_DIR",
    help="Folder of the prediction log; off unless given.",
)
def serve(model: str, digest: str | None, key: str | None, port: int, log_dir: Path | None) -> None:
    """Serve a bento as production does, until Ctrl-C: the one built here, or one by digest or key."""
    from loop.core import paths
    from loop.packaging import bento as bentos
    from loop.packaging.image import fetch
    from loop.packaging.process import Server

    root = paths.root()
    if digest:
        path = fetch(model, digest)
    else:
        path = bentos.checked(bentos.path_of(model, key), model) if key else bentos.built(root, model).path
    with Server(path, port, log_dir=log_dir) as server:
        click.echo(f"{server.url}/predict, ready after {server.ready_after:.1f} s; Ctrl-C ends it")
        server.wait()
        click.echo(server.output())


def _named() -> bool:
    """Whether this fork has a registry of its own to push to."""
    from loop.core import paths, repository

    return repository.read(paths.root()).named


def _warn(instead: str) -> None:
    """Say loudly why no image is built: on the console, at the run, and in its summary."""
    from loop.core import actions

    why = "no docker, podman or buildah runs here"
    if not _named():
        why = "this fork has no registry of its own: ./loop init --registry REGISTRY names one"
    actions.warning("No image", f"{why}; until then {instead}")
