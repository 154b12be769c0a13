"""What an image is made of, signed and verified: `loop attest, verify`."""

import click


@click.command
@click.argument("model")
def attest(model: str) -> None:
    """Write SBOM and provenance of the image built here, signed with this machine's key."""
    from loop.core import actions, paths
    from loop.delivery import provenance

    root = paths.root()
    image = provenance.attest(root, model)
    name, digest = image["image"].split("@")
    file = (
        f"{image['layout']}/blobs/{digest.replace(':', '/')}"
        if "layout" in image
        else f"oci://{image['image']}"
    )
    folder = paths.ModelPaths(root, model).build.relative_to(root)
    actions.output(name=name, digest=digest, kind=image["kind"], subject=file, folder=folder)
    click.echo(f"{folder}/sbom.json, provenance.json and provenance.dsse.json are about {image['image']}")


@click.command
@click.argument("model")
def verify(model: str) -> None:
    """Reject (4) an image whose provenance is not signed here, or is about something else."""
    from loop.core import actions, paths
    from loop.delivery import provenance

    digest = provenance.verify(paths.root(), model)
    actions.summary(f"- provenance and SBOM of `{digest}`: signature, commit, model and packages verified")
    click.echo(f"{digest}: provenance verified")
