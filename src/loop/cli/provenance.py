"""Signs and verifies what an image was made of: `loop attest, verify`."""

import click

from loop.cli.arguments import optional_model
from loop.core.project import Project


@click.command
@optional_model
def attest(model: str | None) -> None:
    """Write and sign the SBOM and the provenance of an image.

    The SBOM lists the packages in the image; the provenance says from which commit it was built. Both are
    signed with this machine's key. Without MODEL it is the image of judge and monitor. Step outputs: new,
    which is false if an earlier release has attested this image; name, digest, kind, subject and folder.
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
    folder = Project(root, model or provenance.MONITOR).build.relative_to(root)
    actions.output(new="true", name=name, digest=digest, kind=image["kind"], subject=file, folder=folder)
    click.echo(f"{folder}/sbom.json, provenance.json and provenance.dsse.json are about {image['image']}")


@click.command
@optional_model
def verify(model: str | None) -> None:
    """Verify the signed provenance of an image.

    It ends with 4 if the signer is not the one expected (on GitHub the workflow release-model.yml, elsewhere
    this machine's key), or if the provenance states another image, commit or release key. Without MODEL it
    verifies the image of judge and monitor.
    """
    from loop.core import actions, paths
    from loop.delivery import provenance

    if not (digest := provenance.verify(paths.root(), model)):
        click.echo("nothing to verify: no image")
        return
    actions.summary(f"- provenance of `{digest}`: signature, image and key verified")
    click.echo(f"{digest}: provenance verified")
