"""The image that Git pins: a container where an engine runs, else the bento itself as an OCI artifact."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from loop.core import repository
from loop.core.errors import LoopError
from loop.core.files import write_json
from loop.core.names import public
from loop.core.paths import ModelPaths, cache
from loop.serving import artifact
from loop.serving.bento import Bento, settings, store

ENGINES = ("docker", "podman", "buildah")


def engine() -> str | None:
    """The first of docker, podman, buildah that runs, not just is there; LOOP_ENGINE names one, or `none`."""
    asked = os.environ.get("LOOP_ENGINE")
    if asked == "none":
        return None
    if asked and asked not in ENGINES:
        raise LoopError(f"LOOP_ENGINE is {asked!r}", fix=f"one of {', '.join(ENGINES)}, none")
    found = next((name for name in ([asked] if asked else ENGINES) if _runs(name)), None)
    if asked and not found:
        raise LoopError(
            f"LOOP_ENGINE is {asked}, but `{asked} info` fails", fix="start it, or LOOP_ENGINE=none"
        )
    return found


def make(root: Path, model: str, bento: Bento, with_engine: str | None) -> dict[str, Any]:
    """Make the image of a bento; returns what it writes to build/<package>/image.json."""
    name = f"{repository.read(root).registry}/{public(model)}"
    if with_engine:
        digest, record = _container(with_engine, name, bento), {"kind": "container"}
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


def _runs(program: str) -> bool:
    try:
        done = subprocess.run([program, "info"], capture_output=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _container(program: str, name: str, bento: Bento) -> str:
    """Build by `bentoml containerize`, push, and return the digest that the registry knows it by.

    LOOP_BUILD_OPTIONS are the build's own, as `network=host` where the engine has no bridge.
    """
    tag = f"{name}:{bento.key}"
    bentoml = ["-m", "bentoml", "containerize", bento.tag, "--backend", program, "--image-tag", tag]
    options = [f"--opt={option}" for option in os.environ.get("LOOP_BUILD_OPTIONS", "").split()]
    _run([sys.executable, *bentoml, *options], "LOOP_BASE_IMAGE names another base image")
    login = f"log in: {program} login {name.partition('/')[0]}; or LOOP_ENGINE=none pins the bento itself"
    if program == "docker":
        _run([program, "push", tag], login)
        digests = _run([program, "inspect", "--format", '{{join .RepoDigests "\\n"}}', tag], login)
        return _only(name, digests)
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "digest"
        _run([program, "push", "--digestfile", str(file), tag, f"docker://{tag}"], login)
        return file.read_text(encoding="utf-8").strip()


def _only(name: str, digests: str) -> str:
    """Docker knows an image by a digest for each registry it was pushed to: the one of `name`."""
    for line in digests.splitlines():
        where, _, digest = line.strip().partition("@")
        if digest and where.removeprefix("docker.io/") == name.removeprefix("docker.io/"):
            return digest
    raise LoopError(f"docker knows no digest of {name} after the push; it says {digests!r}")


def _run(command: list[str], fix: str) -> str:
    done = subprocess.run(command, env=settings(store()), capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stdout + done.stderr).strip()[-3000:]
        raise LoopError(f"{' '.join(command)} failed:\n{said}", fix=fix)
    return done.stdout.strip()
