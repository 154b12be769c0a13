"""Writes files and folders atomically, so that readers never see half a file; hashes and lists files."""

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Any

from loop.core.errors import LoopError


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to `path`, and rename it to `path` if the block succeeds.

    For a file, or for a folder that the block creates. If the process is killed, the old content of `path`
    remains, and the leftover is a dot-file that is never read. A folder is replaced by two renames; if the
    process is killed between them, the folder is missing and must be created again.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        aside = scratch / path.name
        yield aside
        if path.is_dir() and (aside.is_dir() or not path.is_symlink()):
            path.rename(scratch / "replaced")
        aside.replace(path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def locked(folder: Path, how: int = 0) -> Iterator[None]:
    """Hold an exclusive lock on a folder. Raises OSError if `how` is LOCK_NB and another process holds it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | how)
        yield
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically."""
    with whole(path) as aside:
        aside.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON with sorted keys, so that equal values give equal bytes."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, default=str) + "\n")


def read_json(path: Path) -> Any:
    """Return the content of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def plain_files(root: Path, *names: str, bytecode: bool = False) -> list[Path]:
    """Return, sorted, the files at or below each `root`/name; without names, all files below `root`.

    For files that will be hashed or copied into an image. Raises LoopError for a link, FIFO, socket or device
    among these files or their parent folders below `root`, because a link could include any file of this
    machine. A name that does not exist gives no files. `__pycache__` is skipped, unless `bytecode` is true.
    """
    found: list[Path] = []
    for name in names or (".",):
        _, *way = accumulate(Path(name).parts, Path.joinpath, initial=root)
        top = root / name
        if all(map(_plain, way)):
            inside = sorted(top.rglob("*")) if top.is_dir() else [top]
            kept = [path for path in inside if bytecode or "__pycache__" not in path.relative_to(root).parts]
            found += [path for path in kept if _plain(path) and path.is_file()]
    return found


def _plain(path: Path) -> bool:
    """Whether `path` is an existing file or folder. Raises LoopError if it is of another kind."""
    if path.is_symlink() or (path.exists() and not path.is_file() and not path.is_dir()):
        kind = "a symbolic link" if path.is_symlink() else "a FIFO, a socket or a device"
        raise LoopError(
            f"{path} is {kind}; only plain files in plain folders can be hashed or packed",
            fix=f"put the file itself there, or remove it: rm {path}",
        )
    return path.exists()
