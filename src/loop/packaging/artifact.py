"""Packs a bento as an OCI artifact on disk, which Git pins if there is no container engine.

The folder is an OCI image layout (image-spec v1.1), so any OCI tool can push it to a registry. The same bento
always gives the same digest: names are sorted, and times, owners and bytecode are left out.
"""

import gzip
import hashlib
import json
import shutil
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from loop.core.errors import LoopError
from loop.core.files import locked, plain_files, read_json, sha256, whole
from loop.packaging.layout import EMPTY, MANIFEST, add, add_manifest, blob, move, parts, write_index

BENTO = "application/vnd.loop.bento.v1"
LAYER = f"{BENTO}.tar+gzip"


def pack(folder: Path, layout: Path, name: str, version: str) -> str:
    """Add `folder` to a layout, which is created if missing, and verify it. Returns the manifest's digest."""
    config = {"mediaType": EMPTY, **add(layout, b"{}")}
    with tempfile.TemporaryDirectory(dir=layout / "blobs", prefix=".layer.") as scratch:
        aside = Path(scratch) / "layer"
        _tar(folder, aside)
        layer = {"mediaType": LAYER, **move(aside, layout)}
    notes = {"org.opencontainers.image.title": name, "org.opencontainers.image.version": version}
    described = add_manifest(layout, config, [layer], artifactType=BENTO, annotations=notes)
    _list(layout, described, version)
    verify(layout, described["digest"])
    return str(described["digest"])


def take(source: Path, digest: str, layout: Path, version: str) -> None:
    """Copy an artifact from another layout into `layout`, after verifying every digest."""
    verify(source, digest)
    for part in (digest, *parts(read_json(blob(source, digest)))):
        with whole(blob(layout, part)) as aside:
            shutil.copyfile(_checked(source, part), aside)
    size = blob(layout, digest).stat().st_size
    _list(layout, {"mediaType": MANIFEST, "digest": digest, "size": size}, version)


def verify(layout: Path, digest: str) -> Path:
    """Return the layer's path, after verifying it and its manifest. Raises LoopError if a digest is wrong."""
    manifest = json.loads(_checked(layout, digest).read_text(encoding="utf-8"))
    if manifest.get("artifactType") != BENTO:
        raise LoopError(f"{layout}: {digest} is {manifest.get('artifactType')!r}, not {BENTO!r}")
    (layer,) = manifest["layers"]
    return _checked(layout, str(layer["digest"]))


def unpack(layout: Path, digest: str, into: Path) -> Path:
    """Verify an artifact and write its bento to `into` atomically. Raises LoopError if a digest is wrong."""
    layer = verify(layout, digest)
    with whole(into) as aside, tarfile.open(layer, "r:gz") as tar:
        aside.mkdir()
        for member in tar:
            target = (aside / member.name).resolve()
            if not member.isfile() or not target.is_relative_to(aside.resolve()):
                raise LoopError(f"{layer}: {member.name!r} is not a plain file inside the bento")
            target.parent.mkdir(parents=True, exist_ok=True)
            content = tar.extractfile(member)
            assert content is not None  # noqa: S101 - tarfile guarantees it for a plain file
            with target.open("wb") as file:
                shutil.copyfileobj(content, file)
            target.chmod(member.mode)
    return into


def changed(layout: Path, digest: str, folder: Path) -> str:
    """Return what differs in a folder from the bento that `unpack` writes; empty if nothing does."""
    try:
        found = {path.relative_to(folder).as_posix(): path for path in plain_files(folder, bytecode=True)}
    except LoopError as error:
        return str(error)
    with tarfile.open(verify(layout, digest), "r:gz") as tar:
        for member in tar:
            content, path = tar.extractfile(member), found.pop(member.name, None)
            if content is None or path is None:
                return f"{member.name} is missing"
            same = hashlib.file_digest(content, "sha256").hexdigest() == sha256(path)  # type: ignore[arg-type]
            if not same or path.stat().st_mode & 0o777 != member.mode:
                return f"{member.name} was changed"
    return f"{min(found)} was added" if found else ""


def _tar(folder: Path, to: Path) -> None:
    files = plain_files(folder)
    with (
        to.open("wb") as raw,
        gzip.GzipFile("", "wb", compresslevel=6, fileobj=raw, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for path in files:
            entry = tarfile.TarInfo(path.relative_to(folder).as_posix())
            entry.size = path.stat().st_size
            entry.mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
            with path.open("rb") as content:
                tar.addfile(entry, content)


def _list(layout: Path, described: dict[str, Any], version: str) -> None:
    """Add a manifest to those that index.json already lists."""
    notes = {"org.opencontainers.image.ref.name": version}
    with locked(layout):
        path = layout / "index.json"
        known = read_json(path)["manifests"] if path.is_file() else []
        others = [one for one in known if one["digest"] != described["digest"]]
        write_index(layout, [*others, {**described, "artifactType": BENTO, "annotations": notes}])


def _checked(layout: Path, digest: str) -> Path:
    path = blob(layout, digest)
    if not path.is_file():
        raise LoopError(f"{layout} has no {digest}", fix="run ./loop image MODEL at the same commit")
    if (found := sha256(path)) != digest.removeprefix("sha256:"):
        fix = f"rm {path}; ./loop image MODEL"
        raise LoopError(f"{path} was changed: its content is sha256:{found}", fix=fix)
    return path
