"""The commands that make an image, carry it to the job that may publish it, push it and attest it."""

import os
from pathlib import Path

import click

from loop.cli.arguments import PATH, known_model, models, project_argument
from loop.core import actions, paths
from loop.core.project import Project


def _of_image(_: click.Context, __: click.Parameter, model: str | None) -> Project:
    from loop.packaging.records import MONITOR

    return Project(paths.root(), model or MONITOR)


image_argument = click.argument(
    "project", metavar="[MODEL]", required=False, type=known_model, shell_complete=models, callback=_of_image
)
trained_option = click.option("--trained", is_flag=True, help="Only what the stages made, for `land`.")


@click.command
@project_argument
def image(project: Project) -> None:
    """Build the image of the bento, without pushing it.

    It needs docker, podman or buildah. Where none runs, or `init` has named no registry, the bento itself is
    stored on this machine as an OCI artifact, and releases pin that. Step outputs: image, digest, kind.
    """
    from loop.packaging import bento, image

    program = _engine("releases pin the bento itself, as an OCI artifact on disk")
    made = image.make(project, bento.built(project), program)
    actions.output(image=made["image"], digest=made["digest"], kind=made["kind"])
    size = f", {made['unpacked'] / 1e6:.0f} MB unpacked" if "unpacked" in made else ""
    click.echo(f"{made['kind']}: {made['image']}{size}")


@click.command("monitor-image")
def monitor_image() -> None:
    """Build the image of judge and monitor, without pushing it.

    Nothing is built if the registry has an image that our release has attested for the same code. Step
    outputs: image, digest, kind.
    """
    from loop.packaging import monitor_image

    made = monitor_image.make(paths.root(), _engine("neither judge nor monitor runs in a cluster"))
    actions.output(image=made["image"] or "", digest=made["digest"] or "", kind=made["kind"])
    click.echo(f"{made['kind']}: {made['image'] or made['key']}")


@click.command("push-image")
@image_argument
def push_image(project: Project) -> None:
    """Push an image to the registry.

    With MODEL it is the image that `image` has built; without, the one of `monitor-image`. Nothing is pushed
    if the registry has an image of the same key that our release has attested, or if none was built. Step
    outputs: image, digest, kind.
    """
    from loop.packaging import image

    served = image.push(project)
    actions.output(image=served["image"] or "", digest=served["digest"] or "", kind=served["kind"])
    told = "served as" if served["kind"] == "container" else f"nothing to push: {served['kind']}"
    earlier = ", which an earlier release of the same key has pushed and attested"
    click.echo(f"{told} {served['image'] or ''}".strip() + (earlier if served.get("attested") else ""))


@click.command
@image_argument
def attest(project: Project) -> None:
    """Write and sign the SBOM and the provenance of an image.

    The SBOM lists the packages in the image; the provenance says from which commit it was built. Both are
    signed with this machine's key. Without MODEL it is the image of judge and monitor. Step outputs: new,
    which is false if an earlier release has attested this image; name, digest, kind, subject and folder.
    """
    from loop.delivery import provenance

    image = provenance.attest(project)
    if image["kind"] == "none" or image.get("attested"):
        actions.output(new="false")
        said = f"{image['image']}: attested by an earlier release of the same key"
        click.echo("nothing to attest: no image" if image["kind"] == "none" else said)
        return
    name, digest = image["image"].split("@")
    blob = f"blobs/{digest.replace(':', '/')}"
    file = f"{image['layout']}/{blob}" if "layout" in image else f"oci://{image['image']}"
    folder = project.build.relative_to(project.root)
    actions.output(new="true", name=name, digest=digest, kind=image["kind"], subject=file, folder=folder)
    click.echo(f"{folder}/sbom.json, provenance.json and provenance.dsse.json are about {image['image']}")


@click.command
@image_argument
def verify(project: Project) -> None:
    """Verify the signed provenance of an image.

    It ends with 4 if the signer is not the one expected (on GitHub the workflow release-model.yml, elsewhere
    this machine's key), or if the provenance states another image, commit or release key. Without MODEL it
    verifies the image of judge and monitor.
    """
    from loop.delivery import provenance

    if not (digest := provenance.verify(project)):
        click.echo("nothing to verify: no image")
        return
    actions.summary(f"- provenance of `{digest}`: signature, image and key verified")
    click.echo(f"{digest}: provenance verified")


@click.command
@image_argument
@trained_option
def bundle(project: Project, trained: bool) -> None:
    """Pack what was built here for the job that publishes it.

    The job that builds a model runs the model's own code, so it has no right to publish. Another job has the
    right, runs none of that code, and unpacks this file with `unbundle`. Without MODEL, the image of judge
    and monitor is packed. Step outputs: sha256, for `unbundle`; bundle, the file; folder, which has it.
    """
    from loop.core import files
    from loop.delivery import bundle

    packed = bundle.pack(project, trained=trained)
    path, digest = packed.relative_to(project.root), files.sha256(packed)
    actions.output(sha256=digest, bundle=path, folder=path.parent)
    click.echo(f"{path}: {packed.stat().st_size / 1e6:.1f} MB, sha256 {digest}")


@click.command
@image_argument
@click.option("--sha256", required=True, metavar="HEX", help="The SHA-256 that `bundle` printed.")
@click.option("--file", type=PATH, help="The file.  [default: where `bundle` writes it]")
@trained_option
def unbundle(project: Project, sha256: str, file: Path | None, trained: bool) -> None:
    """Unpack what `bundle` packed in another job.

    It runs nothing. It ends with 4 if the file is not the one that `bundle` wrote, or does not fit this
    checkout. With MODEL it writes data/<package>/, build/<package>/ and the image. Without MODEL it writes
    the image of judge and monitor. Step output: registry, the host that images are pushed to; empty if
    nothing is pushed.
    """
    from loop.core import repository
    from loop.delivery import bundle

    new = bundle.unpack(project, sha256, trained=trained, file=file)
    own = repository.read(project.root)
    none = os.environ.get("LOOP_ENGINE") == "none" or not own.named
    actions.output(registry="" if none else own.registry.partition("/")[0])
    click.echo(f"{project.public}: unpacked, every part checked")
    for name in new:
        said = f"{name} differs from the one in Git, because the job that built has trained the model"
        click.secho(said, fg="yellow", err=True)


def _engine(instead: str) -> str | None:
    """The program that builds images here; without one, warn why and what is done `instead`."""
    from loop.core import repository
    from loop.packaging.engine import engine

    named = repository.read(paths.root()).named
    program = engine() if named else None
    if not program:
        why = "neither docker, podman nor buildah runs here"
        if not named:
            why = "this fork has no registry yet; ./loop init --registry REGISTRY names one"
        actions.warning("No image", f"{why}; until then {instead}")
    return program
