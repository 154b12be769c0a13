"""Files that are either whole or not there."""

import fcntl
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from loop.core.errors import LoopError

OTHERS = {stat.S_IFLNK: "a symbolic link", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; rename it into place only when the block ends well.

    Works for a file and for a folder (make it inside the block). Killed half-way, what stood at
    `path` before still stands, and the leftover is a dot-file that nothing reads. Only between the two
    renames that replace a folder there is none: who is killed just there is to make it again.
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
    """Hold a folder's lock, which ends with the process; with LOCK_NB, OSError where another has it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | how)
        yield
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path`, whole or not at all."""
    with whole(path) as aside:
        aside.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON with sorted keys, so that equal values are equal bytes."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, default=str) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def plain_files(root: Path, *names: str, bytecode: bool = False) -> list[Path]:
    """The files at each `root`/name, or below it where that is a folder; without names, below `root`. Sorted.

    For whatever is hashed or packed. LoopError for a link, a FIFO, a socket or a device, also on the way down
    from `root`: a link brings in what it points to, which may lie anywhere on this machine. A name that does
    not exist has no files. `__pycache__` is left out, unless `bytecode`.
    """
    found: list[Path] = []
    for name in names or (".",):
        way = [root]
        for part in Path(name).parts:
            way.append(way[-1] / part)
        top = way[-1]
        if all(_plain(path) for path in way[1:]):
            inside = sorted(top.rglob("*")) if top.is_dir() else [top]
            kept = [path for path in inside if bytecode or "__pycache__" not in path.relative_to(root).parts]
            found += [path for path in kept if _plain(path) and path.is_file()]
    return found


def _plain(path: Path) -> bool:
    """Whether a file or a folder is there; LoopError where it is something else."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return False
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise LoopError(
            f"{path} is {OTHERS.get(stat.S_IFMT(mode), 'a device')}; what is hashed or packed must be plain "
            "files in plain folders",
            fix=f"put the file itself there, or remove it: rm {path}",
        )
    return True
