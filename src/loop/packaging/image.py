"""The image that Git pins: a container where an engine runs, else the bento itself as an OCI artifact.

A container is built by one command and pushed by another, so that what builds it needs no right to push.
`build/<package>/image/` holds it as the registry will serve it, so its digest is known before the push.
A container that the registry has under the same key is taken only if our release has attested it for that key
(`loop.packaging.attestation`); whoever may push could have put any other there.
"""

import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from loop.core import actions, repository
from loop.core.errors import LoopError, Rejected
from loop.core.files import read_json, write_json
from loop.core.names import public
from loop.core.paths import ModelPaths, cache
from loop.core.plain import Device
from loop.packaging import artifact, attestation, engine, layout
from loop.packaging.bento import Bento, settings, store
from loop.packaging.key import release_key
from loop.packaging.registry import Registry

USUAL = "linux/amd64"  # what most nodes are
# Bytes unpacked: what a node pulls and keeps for every release. CUDA's libraries alone are several GB.
MOST: dict[Device, int] = {"cpu": 500_000_000, "cuda": 8_000_000_000}


def make(root: Path, model: str, bento: Bento, with_engine: str | None) -> dict[str, Any]:
    """Make the image of a bento; returns what it writes to build/<package>/image.json."""
    name = name_of(root, model)
    record: dict[str, Any]
    if with_engine:
        record = container(
            root, name, bento.key, with_engine, lambda tag: _containerize(with_engine, bento, tag)
        )
        small(record, bento.device)
    else:
        digest = artifact.pack(bento.path, layout_of(model), public(model), bento.key)
        record = {
            "kind": "bento-artifact",
            "layout": str(layout_of(model)),
            "image": f"{name}@{digest}",
            "digest": digest,
        }
    record["key"] = bento.key
    write_json(_folder(root, name) / "image.json", record)
    return record


def push(root: Path, model: str) -> dict[str, Any]:
    """Push the image that `make` left, unless the registry has ours of that key; returns the record."""
    record = ModelPaths(root, model).build / "bento.json"
    device = read_json(record).get("device") if record.is_file() else None
    return pushed(root, name_of(root, model), release_key(root, model, device=device))


def name_of(root: Path, model: str) -> str:
    """A model's image in the fork's registry, without tag or digest."""
    return f"{repository.read(root).registry}/{public(model)}"


def layout_of(model: str) -> Path:
    """The OCI image layout that holds a model's artifacts on this machine."""
    return cache() / "images" / public(model)


def fetch(model: str, digest: str) -> Path:
    """The bento of an artifact, unpacked into the cache and verified, also if it was unpacked before."""
    into = cache() / "bentoml" / "unpacked" / digest.removeprefix("sha256:")
    if into.is_dir():
        if not (changed := artifact.changed(layout_of(model), digest, into)):
            return into
        click.echo(f"{into}: {changed}; unpacked again from {digest}", err=True)
    return artifact.unpack(layout_of(model), digest, into)


def container(root: Path, name: str, key: str, program: str, build: Callable[[str], None]) -> dict[str, Any]:
    """The record of `name:key`: of the attested image in the registry, or of one that is built here."""
    registry, folder = Registry.of(name), _folder(root, name)
    if there := _attested(registry, key):
        return there
    build(f"{name}:{key}")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".image.") as scratch:  # /tmp may hold less
        archive = Path(scratch) / "image.tar"
        engine.save(program, f"{name}:{key}", archive)
        digest = layout.write(archive, folder / "image")
    _runs_on_the_nodes(f"{name}:{key}", layout.platform(folder / "image", digest))
    manifest = layout.manifest(folder / "image", digest)
    return _record(name, digest, manifest, pushed=False, attested=False)


def pushed(root: Path, name: str, key: str) -> dict[str, Any]:
    """Push what `container` has built as `name:key`; returns the record, of what is served.

    Safe to run again. Where the registry has one of this key that our release has attested, that one stays,
    and the record follows it. Any other is replaced: Git names the digest that was built here. LoopError when
    the registry does not serve what was pushed: nobody could pull what Git names.
    """
    folder = _folder(root, name)
    if not (folder / "image.json").is_file():
        raise LoopError(f"{folder}/image.json does not exist", fix=_fix(name))
    record: dict[str, Any] = read_json(folder / "image.json")
    if record["kind"] != "container":
        return record
    registry, digest = Registry.of(name), str(record["digest"])
    if there := _attested(registry, key):
        record |= there
    else:
        _check(name, folder, record)
        registry.push(folder / "image", key)
        if registry.digest(digest) != digest:
            raise LoopError(
                f"{name}:{key}: {digest} was pushed, but the registry does not serve it",
                fix=f"look at {registry.host}, which may be changing what it is given; push it again",
            )
        record |= {"pushed": True, "attested": False}
    write_json(folder / "image.json", record)
    return record


def small(record: dict[str, Any], device: Device = "cpu") -> None:
    """Rejected when an image is over MOST bytes unpacked."""
    layers = [layout.Layer(**layer) for layer in record["layers"]]
    if (size := sum(layer.unpacked for layer in layers)) > MOST[device]:
        raise Rejected(
            f"{record['image']} is {size / 1e6:.0f} MB unpacked, may be {MOST[device] / 1e6:.0f}:\n"
            f"{layout.table(layers)}",
            fix="leave out of bentos/<model>/requirements.in what serving does without",
            docs="docs/images.md#serving",
        )


def _runs_on_the_nodes(image: str, built: str) -> None:
    """LoopError for an image that LOOP_PLATFORM's nodes can't run; without that, a warning of an unusual one.

    An engine builds for its own machine, and a laptop's processor is often not the nodes'.
    """
    wanted = os.environ.get("LOOP_PLATFORM")
    fix = f"LOOP_BUILD_OPTIONS=platform={wanted or USUAL} has the engine build for those nodes"
    if wanted and built != wanted:
        raise LoopError(
            f"{image} is for {built}, and LOOP_PLATFORM says that the nodes are {wanted}", fix=fix
        )
    if not wanted and built != USUAL:
        said = (
            f"nodes that are {USUAL} can't run {image}. {fix}; LOOP_PLATFORM={built} says that yours are not"
        )
        actions.warning(f"The image is for {built}", said)


def _attested(registry: Registry, key: str) -> dict[str, Any] | None:
    """The record of the registry's image of a key; None if our release has attested none."""
    if not (digest := registry.digest(key)):
        return None
    if why := attestation.doubt(registry, digest, key):
        click.echo(f"{registry.name}:{key} in the registry is not taken: {why}", err=True)
        return None
    return _record(registry.name, digest, registry.manifest(digest), pushed=True, attested=True)


def _record(name: str, digest: str, manifest: dict[str, Any], **told: bool) -> dict[str, Any]:
    layers = [asdict(layer) for layer in layout.layers(manifest)]
    return {"kind": "container", "image": f"{name}@{digest}", "digest": digest, "layers": layers, **told}


def _check(name: str, folder: Path, record: dict[str, Any]) -> None:
    """What is pushed is what the record names, whole, and goes where this repository's images go."""
    found = layout.verify(folder / "image") if (folder / "image").is_dir() else "no image"
    if record["image"] != f"{name}@{found}":
        raise LoopError(
            f"{folder}/image.json names {record['image']}, {folder}/image is {name}@{found}",
            fix=_fix(name),
        )


def _folder(root: Path, name: str) -> Path:
    """What is made of an image: build/<package>, or build/monitor."""
    return ModelPaths(root, name.rpartition("/")[2]).build


def _fix(name: str) -> str:
    made = name.rpartition("/")[2]
    return f"./loop {made}-image" if made == "monitor" else f"./loop image {made}"


def _containerize(program: str, bento: Bento, tag: str) -> None:
    bentoml = ["-m", "bentoml", "containerize", bento.tag, "--backend", program, "--image-tag", tag]
    options = [f"--opt={option}" for option in engine.options()]
    fix = "LOOP_BASE_IMAGE names another base image"
    engine.run([sys.executable, *bentoml, *options], fix, settings(store()))
