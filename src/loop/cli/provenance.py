"""What an image is made of, signed and verified: `loop attest, verify`."""

import click


@click.command
@click.argument("model", required=False)
def attest(model: str | None) -> None:
    """Write SBOM and provenance of the image made here, signed with this machine's key.

    Without MODEL it is the image of judge and monitor. Output `new`: whether this run has pushed the image;
    one that an earlier release has attested needs nothing more.
    """
    from loop.core import actions, paths
    from loop.delivery import provenance

    root = paths.root()
    image = provenance.attest(root, model)
    if image["kind"] == "none" or image.get("attested"):
        actions.output(new="false")
        said = f"{image['image']}: attested by an earlier release of the same key"
        click.echo("nothing to attest: no image" if image["kind"] == "none" else said)
        return
    name, digest = image["image"].split("@")
    file = (
        f"{image['layout']}/blobs/{digest.replace(':', '/')}"
        if "layout" in image
        else f"oci://{image['image']}"
    )
    folder = paths.ModelPaths(root, model or provenance.MONITOR).build.relative_to(root)
    actions.output(new="true", name=name, digest=digest, kind=image["kind"], subject=file, folder=folder)
    click.echo(f"{folder}/sbom.json, provenance.json and provenance.dsse.json are about {image['image']}")


@click.command
@click.argument("model", required=False)
def verify(model: str | None) -> None:
    """Reject (4) an image whose provenance is not signed here, or is about something else.

    Without MODEL it is the image of judge and monitor.
    """
    from loop.core import actions, paths
    from loop.delivery import provenance

    if not (digest := provenance.verify(paths.root(), model)):
        click.echo("nothing to verify: no image")
        return
    actions.summary(f"- provenance of `{digest}`: signature, image and key verified")
    click.echo(f"{digest}: provenance verified")
