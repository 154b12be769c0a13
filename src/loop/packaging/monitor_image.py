"""The image that watches production: `loop judge` and `loop monitor`, with this repository's code."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from loop.core import repository
from loop.core.files import plain_files, write_json
from loop.core.paths import library
from loop.packaging import engine
from loop.packaging.image import container, name_of, pushed

NAME = "monitor"
FOLDER = f"images/{NAME}"
LOCK = f"{FOLDER}/requirements.lock"
LOADED = ("src", "params.yaml", "dvc.yaml", repository.PATH)  # to /loop


def make(root: Path, program: str | None) -> dict[str, Any]:
    """Build the image unless the registry has ours of its key; returns what it writes to image.json.

    Without an engine there is none: kind `none`, image null.
    """
    key = image_key(root)
    record: dict[str, Any] = {"kind": "none", "image": None, "digest": None}
    if program:
        record = container(root, name_of(root, NAME), key, program, lambda tag: _build(root, program, tag))
    record["key"] = key
    write_json(root / "build" / NAME / "image.json", record)
    return record


def push(root: Path) -> dict[str, Any]:
    """Push the image that `make` left, unless the registry has ours of that key; returns the record."""
    return pushed(root, name_of(root, NAME), image_key(root))


def image_key(root: Path) -> str:
    """12 hex digits of SHA-256 over every file that goes in, and LOOP_BASE_IMAGE."""
    digest = hashlib.sha256(os.environ.get("LOOP_BASE_IMAGE", "").encode() + b"\0")
    for place, path in sources(root):
        digest.update(f"{place}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\0".encode())
    return digest.hexdigest()[:12]


def sources(root: Path) -> Iterator[tuple[str, Path]]:
    """Every file of the build: its place in the build's context, and where it lies.

    LoopError for a link or anything else that is no plain file.
    """
    yield from ((path.name, path) for path in plain_files(root, f"{FOLDER}/Dockerfile"))
    runtime = library(root) / "runtime"  # has uv and its lock, for the bento's image too
    for path in (*plain_files(root, LOCK), *plain_files(runtime, "uv", "uv.lock")):
        yield f"packages/{path.name}", path
    for path in plain_files(root, *LOADED):
        yield f"loop/{path.relative_to(root)}", path


def _build(root: Path, program: str, tag: str) -> None:
    """Build it from copies that every user can read, whatever umask made this clone: COPY keeps modes."""
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
        fix = "LOOP_BASE_IMAGE names another base image"
        engine.run([program, "build", *arguments, "--tag", tag, context], fix)
