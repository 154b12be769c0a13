"""Builds the monitor's image, which runs `loop judge` and `loop monitor` with this repository's code."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from loop.core import repository
from loop.core.files import plain_files, sha256, write_json
from loop.core.paths import library
from loop.core.project import Project
from loop.packaging import engine
from loop.packaging.image import container
from loop.packaging.records import MONITOR

FOLDER = "images/monitor"
LOCK = f"{FOLDER}/requirements.lock"
# files and folders that are copied to /loop in the monitor's image
LOADED = ("src", "params.yaml", "dvc.yaml", repository.PATH)


def make(root: Path, program: str | None) -> dict[str, Any]:
    """Build the image by an engine unless the registry has an attested one. Writes and returns image.json."""
    key = image_key(root)
    record: dict[str, Any] = {"kind": "none", "image": None, "digest": None}
    if program:
        record = container(Project(root, MONITOR), key, program, lambda tag: _build(root, program, tag))
    record["key"] = key
    write_json(root / "build" / MONITOR / "image.json", record)
    return record


def image_key(root: Path) -> str:
    """Return the first 12 hex digits of a SHA-256 over LOOP_BASE_IMAGE and every file of the image."""
    digest = hashlib.sha256(os.environ.get("LOOP_BASE_IMAGE", "").encode() + b"\0")
    for place, path in sources(root):
        digest.update(f"{place}\0{sha256(path)}\0".encode())
    return digest.hexdigest()[:12]


def sources(root: Path) -> Iterator[tuple[str, Path]]:
    """Yield each file's path in the build context, and on disk. Raises LoopError for a link or device."""
    yield from ((path.name, path) for path in plain_files(root, f"{FOLDER}/Dockerfile"))
    # loop.runtime contains uv and its lock file, which the bento's image uses too
    runtime = library(root) / "runtime"
    for path in (*plain_files(root, LOCK), *plain_files(runtime, "uv", "uv.lock")):
        yield f"packages/{path.name}", path
    for path in plain_files(root, *LOADED):
        yield f"loop/{path.relative_to(root)}", path


def _build(root: Path, program: str, tag: str) -> None:
    """Build from copies that all users can read, because COPY keeps modes, which depend on a umask."""
    with tempfile.TemporaryDirectory(prefix="loop-monitor-") as context:
        for place, path in sources(root):
            target = Path(context) / place
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
            target.chmod(0o755 if os.access(path, os.X_OK) else 0o644)
        for folder in (Path(context), *(path for path in Path(context).rglob("*") if path.is_dir())):
            folder.chmod(0o755)
        base = os.environ.get("LOOP_BASE_IMAGE")
        arguments = [f"--build-arg=BASE={base}"] if base else []
        arguments += [f"--{option}" for option in engine.options()]
        fix = "correct the cause above; LOOP_BASE_IMAGE can name another base image"
        engine.run([program, "build", *arguments, "--tag", tag, context], fix)
