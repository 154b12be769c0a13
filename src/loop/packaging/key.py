"""The release key: the same model, service, lock, base image and registry are the same release."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from loop.core import edited, plain, repository
from loop.core.dvc import Lock
from loop.core.errors import LoopError
from loop.core.files import plain_files
from loop.core.names import package
from loop.core.paths import ModelPaths, library

LOCK = "requirements.lock"
PACKED = "loop/runtime"
SERVER = "loop.runtime.serve"  # the module that an image starts
EARLIER_SERVER = "loop.serving.packed.serve"  # in images built before version 0.2
SCORER = "scorer.py"  # of the model's folder: training and the bento score by the same code
PACKAGE = "loop/__init__.py"  # makes PACKED importable


def release_key(
    root: Path, model: str, lock: Lock | None = None, *, device: plain.Device | None = None
) -> str:
    """12 hex digits of SHA-256 over the model's md5 in dvc.lock, all that is packed, base image and registry.

    The base image and the bento's lock are files of `bentos/<package>/`, unless LOOP_BASE_IMAGE
    names another base. A fork that moves to a registry releases anew: what it had, nobody can pull there.
    LoopError where dvc.lock records no model. `lock` is one that was read before, or is not in place yet.
    `device` is what will serve it: dev's, unless given.
    """
    device = device or plain.device(root, model)
    digest = hashlib.sha256((lock or Lock.of(root)).model_md5(model).encode())
    digest.update(os.environ.get("LOOP_BASE_IMAGE", "").encode() + b"\0")
    digest.update(repository.read(root).registry.encode() + b"\0")
    if target := plain.latency_target(root, model):
        digest.update(f"p99_ms {target:g}\0".encode())
    if device != "cpu":
        digest.update(f"device {device}\0".encode())
    for name, path in sources(root, model, device):
        if name == LOCK:
            edited.merged(edited.read(path, str(path), "make lock"), str(path), "make lock")
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{name}\0{content}\0".encode())
    return digest.hexdigest()[:12]


def sources(root: Path, model: str, device: plain.Device = "cpu") -> Iterator[tuple[str, Path]]:
    """Every file that is packed beside the model: its place in the bento, and where it lies; sorted.

    The device's lock is packed as requirements.lock, and the other device's is not.
    LoopError for a link or anything else that is no plain file, and where that lock is missing.
    """
    bento = ModelPaths(root, model).bento
    lock = root / plain.serving_lock(model, device)
    if lock.name != LOCK and not lock.is_file():
        raise LoopError(
            f"{lock} does not exist, and params.yaml: models.{package(model)}.serve.device asks for it",
            fix=f"write {lock.with_suffix('.in').name} beside it, then `make lock`; or set the device to cpu",
        )
    for path in plain_files(root, bento.relative_to(root).as_posix()):
        if path == lock:
            yield LOCK, path
        elif path.parent != bento or not path.match("requirements*"):
            yield path.relative_to(bento).as_posix(), path
    above = library(root).parent
    for path in plain_files(above, PACKAGE, PACKED):
        yield path.relative_to(above).as_posix(), path
    for path in plain_files(root, f"src/models/{package(model)}/{SCORER}"):
        yield SCORER, path
