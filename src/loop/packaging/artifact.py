"""Packs a bento as an OCI artifact on disk, which Git pins if there is no container engine.

The folder is an OCI image layout (image-spec v1.1), so any OCI tool can push it to a registry. The same bento
always gives the same digest: names are sorted, and times, owners and bytecode are left out.
"""

import gzip
import tarfile
from pathlib import Path

from loop.core.errors import LoopError
from loop.core.files import plain_files, whole
from loop.packaging import layout as layouts
from loop.packaging import tar

BENTO = "application/vnd.loop.bento.v1"
LAYER = f"{BENTO}.tar+gzip"
FIX = "run ./loop image MODEL at the same commit"


def pack(folder: Path, layout: Path, name: str, version: str) -> str:
    """Write `folder` as a layout, atomically. Returns the digest of its manifest."""
    with whole(layout) as aside:
        empty = layouts.add(aside, b"{}", layouts.EMPTY)
        _tar(folder, aside / "layer")
        layer = layouts.move(aside / "layer", aside, LAYER)
        notes = {"org.opencontainers.image.title": name, "org.opencontainers.image.version": version}
        return layouts.finish(aside, empty, [layer], artifactType=BENTO, annotations=notes)


def verify(layout: Path, digest: str) -> Path:
    """Return the layer's path. Raises LoopError unless the layout holds this artifact, unchanged."""
    if (found := layouts.verify(layout, FIX)) != digest:
        raise LoopError(f"{layout} is {found}, not {digest}", fix=FIX)
    manifest = layouts.manifest(layout, digest)
    if manifest.get("artifactType") != BENTO:
        raise LoopError(f"{layout}: {digest} is {manifest.get('artifactType')!r}, not {BENTO!r}")
    return layouts.blob(layout, manifest["layers"][0]["digest"])


def unpack(layout: Path, digest: str, into: Path) -> None:
    """Verify an artifact and write its bento to the new folder `into`. Raises LoopError as `verify` does."""
    with tarfile.open(verify(layout, digest), "r:gz") as packed:
        into.mkdir()
        tar.extract(packed, into)


def _tar(folder: Path, to: Path) -> None:
    with (
        to.open("wb") as raw,
        gzip.GzipFile("", "wb", compresslevel=6, fileobj=raw, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as packed,
    ):
        tar.fill(packed, {path.relative_to(folder).as_posix(): path for path in plain_files(folder)})
