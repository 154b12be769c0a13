"""Computes release keys: the same model, service, lock file, base image and registry give the same key."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from loop.core import edited, plain, repository
from loop.core.dvc import Lock
from loop.core.errors import LoopError
from loop.core.files import plain_files, sha256
from loop.core.paths import library
from loop.core.project import Project

LOCK = "requirements.lock"


def release_key(project: Project, lock: Lock | None = None, *, device: plain.Device | None = None) -> str:
    """Return a model's release key: 12 hex digits of a SHA-256 over everything that its image depends on.

    These are the model's md5 in dvc.lock, all files packed beside the model, the base image, the p99 target
    and the container registry. Base image and lock file are files in `bentos/<package>/`; LOOP_BASE_IMAGE
    replaces the base. The registry is included because images in a fork's former registry can no longer be
    pulled. `lock` is a dvc.lock that is not in place yet. `device` is what will serve the release, by default
    dev's. Raises LoopError if dvc.lock does not record the model.
    """
    device = device or plain.device(project)
    digest = hashlib.sha256((lock or project.lock).model_md5(project.model).encode())
    digest.update(os.environ.get("LOOP_BASE_IMAGE", "").encode() + b"\0")
    digest.update(repository.read(project.root).registry.encode() + b"\0")
    if target := plain.latency_target(project):
        digest.update(f"p99_ms {target:g}\0".encode())
    if device != "cpu":
        digest.update(f"device {device}\0".encode())
    for name, path in sources(project, device):
        if name == LOCK:
            edited.read(path, str(path), "make lock", "make lock")  # raises LoopError for conflict markers
        digest.update(f"{name}\0{sha256(path)}\0".encode())
    return digest.hexdigest()[:12]


def sources(project: Project, device: plain.Device = "cpu") -> Iterator[tuple[str, Path]]:
    """Yield every file that the bento contains beside the model: its path in the bento, and on disk.

    The lock file for `device` becomes requirements.lock; the other device's is left out. Raises LoopError for
    a link or anything else that is not a plain file, and if that lock file is missing.
    """
    bento = project.bento
    lock = project.root / plain.serving_lock(project.model, device)
    if lock.name != LOCK and not lock.is_file():
        fix = f"write {lock.with_suffix('.in').name} beside it, then `make lock`; or set the device to cpu"
        needs = f"params.yaml: models.{project.package}.serve.device needs it"
        raise LoopError(f"{lock} does not exist, but {needs}", fix=fix)
    for path in plain_files(project.root, bento.relative_to(project.root).as_posix()):
        if path == lock:
            yield LOCK, path
        elif path.parent != bento or not path.match("requirements*"):
            yield path.relative_to(bento).as_posix(), path
    above = library(project.root).parent
    for path in plain_files(above, "loop/__init__.py", "loop/runtime"):
        yield path.relative_to(above).as_posix(), path
    for path in plain_files(project.root, f"src/models/{project.package}/scorer.py"):
        yield path.name, path
