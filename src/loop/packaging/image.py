"""Builds and pushes the image that Git pins: a container, or without an engine the bento as an OCI artifact.

Building and pushing are separate commands, so that the build needs no permission to push.
`build/<package>/image/` holds the container in the form in which the registry will serve it, so its digest is
known before the push. If the registry already has a container with the same key, it is reused only if our own
release workflow has attested it (`loop.packaging.attestation`), because anyone with push access could have
put another image there.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click

from loop.core import actions, repository
from loop.core.errors import LoopError, Rejected
from loop.core.files import locked, whole, write_json
from loop.core.names import package, public
from loop.core.paths import cache
from loop.core.plain import Device
from loop.core.project import Project
from loop.packaging import artifact, attestation, engine, layout
from loop.packaging.bento import Bento, sealed, settings, store
from loop.packaging.records import command, record
from loop.packaging.registry import Registry

USUAL = "linux/amd64"  # the platform of most nodes
# Maximum uncompressed bytes of an image, which each node downloads and stores for every release. CUDA's
# libraries alone take several GB.
MOST: dict[Device, int] = {"cpu": 500_000_000, "cuda": 8_000_000_000}


def make(project: Project, bento: Bento, with_engine: str | None) -> dict[str, Any]:
    """Build a bento's image. Returns the record that image.json gets. Raises Rejected if it is too large."""
    if with_engine:
        made = container(project, bento.key, with_engine, partial(_containerize, with_engine, bento))
        size, most = made["unpacked"], MOST[bento.device]
        if size > most:
            wrong = f"{made['image']} is {size / 1e6:.0f} MB uncompressed, may be {most / 1e6:.0f}"
            fix = f"remove packages from {project.bento}/requirements.in that serving does not need"
            raise Rejected(wrong, fix=fix, docs="docs/images.md#serving")
    else:
        packed = project.build / "image"
        digest = artifact.pack(bento.path, packed, project.public, bento.key)
        name, kept = name_of(project.root, project.model), str(keep(packed, project.model, digest))
        made = {"kind": "bento-artifact", "image": f"{name}@{digest}", "digest": digest, "layout": kept}
    made["key"] = bento.key
    write_json(project.build / "image.json", made)
    return made


def name_of(root: Path, model: str) -> str:
    """Return the name of a model's image in the fork's container registry, without tag or digest."""
    return f"{repository.read(root).registry}/{public(model)}"


def keep(layout: Path, model: str, digest: str) -> Path:
    """Verify an artifact, and copy its layout to where `fetch` finds it. Returns that folder."""
    artifact.verify(layout, digest)
    into = _layout_of(model, digest)
    into.parent.mkdir(parents=True, exist_ok=True)
    with locked(into.parent):
        try:
            artifact.verify(into, digest)  # another process may be reading it, so it is not replaced
        except LoopError:
            with whole(into) as aside:
                shutil.copytree(layout, aside)
    return into


def fetch(model: str, digest: str) -> Path:
    """Return the folder of an artifact's bento in the cache, unpacked if it is missing or was changed."""
    packed = _layout_of(model, digest)
    into = store() / "unpacked" / package(model) / packed.name
    sealed(into, partial(artifact.unpack, packed, digest))
    return into


def _layout_of(model: str, digest: str) -> Path:
    # `blob` raises LoopError for what is not a digest
    return cache() / "images" / public(model) / layout.blob(Path(), digest).name


def container(project: Project, key: str, program: str, build: Callable[[str], None]) -> dict[str, Any]:
    """Return the record of a project's image, built unless the registry has an attested one of this key."""
    name, folder = name_of(project.root, project.model), project.build
    registry = Registry(name)
    if there := _attested(registry, key):
        return there
    build(f"{name}:{key}")
    folder.mkdir(parents=True, exist_ok=True)
    # The image's archive is not written to /tmp, which may be too small.
    with tempfile.TemporaryDirectory(dir=folder, prefix=".image.") as scratch:
        archive = Path(scratch) / "image.tar"
        engine.save(program, f"{name}:{key}", archive)
        digest = layout.write(archive, folder / "image")
    _runs_on_the_nodes(f"{name}:{key}", layout.platform(folder / "image", digest))
    manifest = layout.manifest(folder / "image", digest)
    return _record(name, digest, manifest, pushed=False, attested=False)


def push(project: Project) -> dict[str, Any]:
    """Push the image that was built here, and return its record.

    It can be run again safely. An attested image with this key is kept and recorded instead. One without an
    attestation is replaced, because Git will name the digest that was built here. Raises LoopError if the
    registry does not serve the pushed digest, because nodes could not pull it.
    """
    path, image = project.build / "image.json", project.build / "image"
    told: dict[str, Any] = record(project, dict, "image")
    if told["kind"] != "container":
        return told
    name, key, digest = name_of(project.root, project.model), str(told["key"]), str(told["digest"])
    registry = Registry(name)
    if there := _attested(registry, key):
        told |= there
    else:
        found = layout.verify(image) if image.is_dir() else "no image"
        if told["image"] != f"{name}@{found}":
            wrong = f"{path} names {told['image']}, but {image} is {name}@{found}"
            raise LoopError(wrong, fix=command(project, "image"))
        registry.push(image, key)
        if registry.digest(digest) != digest:
            fix = f"check whether {registry.host} changes pushed images; then push again"
            wrong = f"{name}:{key}: {digest} was pushed, but the registry does not serve it"
            raise LoopError(wrong, fix=fix)
        told |= {"pushed": True, "attested": False}
    write_json(path, told)
    return told


def _runs_on_the_nodes(image: str, built: str) -> None:
    """Raise LoopError if an image is not for LOOP_PLATFORM; without that, warn if it is not for USUAL."""
    # an engine builds for its own machine, and nodes often have another processor than a laptop
    wanted = os.environ.get("LOOP_PLATFORM")
    fix = f"set LOOP_BUILD_OPTIONS=platform={wanted or USUAL} to build for these nodes"
    if wanted and built != wanted:
        said = f"{image} is for {built}, but LOOP_PLATFORM says that the nodes are {wanted}"
        raise LoopError(said, fix=fix)
    if not wanted and built != USUAL:
        said = f"{USUAL} nodes cannot run {image}; {fix}, or LOOP_PLATFORM={built} if yours are {built}"
        actions.warning(f"The image is for {built}", said)


def _attested(registry: Registry, key: str) -> dict[str, Any] | None:
    """Return the record of the registry's attested image with this key, or None."""
    if not (digest := registry.digest(key)):
        return None
    if why := attestation.doubt(registry, digest, key):
        click.echo(f"{registry.name}:{key} in the registry is not used: {why}", err=True)
        return None
    return _record(registry.name, digest, registry.manifest(digest), pushed=True, attested=True)


def _record(name: str, digest: str, manifest: dict[str, Any], **told: bool) -> dict[str, Any]:
    size = layout.unpacked(manifest)
    return {"kind": "container", "image": f"{name}@{digest}", "digest": digest, "unpacked": size, **told}


def _containerize(program: str, bento: Bento, tag: str) -> None:
    bentoml = ["-m", "bentoml", "containerize", bento.tag, "--backend", program, "--image-tag", tag]
    options = [f"--opt={option}" for option in engine.options()]
    fix = "correct the cause above; LOOP_BASE_IMAGE can name another base image"
    engine.run([sys.executable, *bentoml, *options], fix, settings(store()))
