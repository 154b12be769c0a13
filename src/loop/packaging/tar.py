"""Fills tar files that have equal bytes for equal files, and extracts tar files that others made."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from tarfile import TarFile, TarInfo

from loop.core.errors import Rejected


def fill(tar: TarFile, files: Mapping[str, Path]) -> None:
    """Write files {name in the tar: file} in this order, without times and owners."""
    for name, path in files.items():
        entry = TarInfo(name)
        entry.size = path.stat().st_size
        entry.mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
        with path.open("rb") as content:
            tar.addfile(entry, content)


def extract(tar: TarFile, into: Path) -> None:
    """Extract a tar into a folder. Raises Rejected for anything but plain files with names of their own."""
    for member in tar:
        target = (into / member.name).resolve()
        # A sparse file is tiny in the tar but may expand to any size on disk, so it is rejected.
        plain = member.isreg() and not member.issparse()
        if not plain or not target.is_relative_to(into.resolve()) or target.exists():
            raise Rejected(f"{tar.name!r}: unexpected file {member.name!r}; only plain files may be in it")
        target.parent.mkdir(parents=True, exist_ok=True)
        content = tar.extractfile(member)
        assert content is not None  # noqa: S101 - tarfile guarantees it for a plain file
        with target.open("wb") as file:
            shutil.copyfileobj(content, file)
        target.chmod(0o755 if member.mode & 0o100 else 0o644)
