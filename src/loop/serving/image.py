"""The image that Git pins: a container where an engine runs, else the bento itself as an OCI artifact."""

import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from loop.core import repository
from loop.core.errors import LoopError, Rejected
from loop.core.files import write_json
from loop.core.names import public
from loop.core.paths import ModelPaths, cache
from loop.serving import artifact, engine
from loop.serving.bento import Bento, settings, store
from loop.serving.registry import Layer, Registry

MOST = 500_000_000  # bytes unpacked: what a node pulls and keeps for every release


def make(root: Path, model: str, bento: Bento, with_engine: str | None) -> dict[str, Any]:
    """Make the image of a bento; returns what it writes to build/<package>/image.json."""
    name = f"{repository.read(root).registry}/{public(model)}"
    record: dict[str, Any]
    if with_engine:
        digest = pushed(name, bento.key, lambda tag: _containerize(with_engine, bento, tag), with_engine)
        record = {"kind": "container", "layers": [asdict(layer) for layer in small(name, digest)]}
    else:
        layout = layout_of(model)
        digest = artifact.pack(bento.path, layout, public(model), bento.key)
        record = {"kind": "bento-artifact", "layout": str(layout)}
    record |= {"image": f"{name}@{digest}", "digest": digest}
    write_json(ModelPaths(root, model).build / "image.json", record)
    return record


def layout_of(model: str) -> Path:
    """The OCI image layout that holds a model's artifacts on this machine."""
    return cache() / "images" / public(model)


def fetch(model: str, digest: str) -> Path:
    """The bento of an artifact, verified and unpacked into the cache, once."""
    into = cache() / "bentoml" / "unpacked" / digest.removeprefix("sha256:")
    return into if into.is_dir() else artifact.unpack(layout_of(model), digest, into)


def pushed(name: str, key: str, build: Callable[[str], None], program: str) -> str:
    """The digest by which `name:key` is served: built and pushed unless the registry has it.

    LoopError when the registry serves another digest than was pushed: Git would name what nobody can pull.
    """
    with Registry(name) as registry:
        if there := registry.digest(key):
            return there
        build(f"{name}:{key}")
        digest = engine.push(program, f"{name}:{key}")
        if (served := registry.digest(key)) != digest:
            raise LoopError(
                f"{name}:{key}: {digest} was pushed, {served} is served",
                fix=f"{program} login {registry.host}; push it again",
            )
        return digest


def small(name: str, digest: str) -> list[Layer]:
    """The layers of an image, read back from its registry; Rejected when it is over MOST bytes unpacked."""
    with Registry(name) as registry:
        layers = registry.layers(digest)
    if (size := sum(layer.unpacked for layer in layers)) > MOST:
        raise Rejected(
            f"{name}@{digest} is {size / 1e6:.0f} MB unpacked, may be {MOST / 1e6:.0f}:\n{table(layers)}",
            fix="leave out of bentos/<model>/requirements.in what serving does without",
        )
    return layers


def table(layers: list[Layer]) -> str:
    """Layers as lines of MB packed, MB unpacked and the step that made them."""
    total = Layer(sum(layer.packed for layer in layers), sum(layer.unpacked for layer in layers), "in all")
    return "\n".join(
        f"{layer.packed / 1e6:7.1f} MB {layer.unpacked / 1e6:7.1f} MB  {layer.made_by}"
        for layer in (*layers, total)
    )


def _containerize(program: str, bento: Bento, tag: str) -> None:
    bentoml = ["-m", "bentoml", "containerize", bento.tag, "--backend", program, "--image-tag", tag]
    options = [f"--opt={option}" for option in engine.options()]
    fix = "LOOP_BASE_IMAGE names another base image"
    engine.run([sys.executable, *bentoml, *options], fix, settings(store()))
