"""Packs a bento as an OCI artifact on disk, which Git pins if there is no container engine.

The folder is an OCI image layout (image-spec v1.1), so any OCI tool can push it to a registry. The same bento
always gives the same digest: names are sorted, and times, owners and bytecode are left out.
"""

import gzip
import hashlib
import json
import re
import shutil
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from loop.core.errors import LoopError
from loop.core.files import locked, plain_files, read_json, sha256, whole, write_text

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
BENTO = "application/vnd.loop.bento.v1"
LAYER = f"{BENTO}.tar+gzip"
EMPTY = {  # the empty config that the OCI specification defines
    "mediaType": "application/vnd.oci.empty.v1+json",
    "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
    "size": 2,
}


def pack(folder: Path, layout: Path, name: str, version: str) -> str:
    """Add `folder` to the layout, which is created if missing.

    Returns the digest of the manifest, after verifying it.
    """
    blobs = layout / "blobs" / "sha256"
    blobs.mkdir(parents=True, exist_ok=True)
    write_text(layout / "oci-layout", '{"imageLayoutVersion": "1.0.0"}')
    write_text(_blob(layout, str(EMPTY["digest"])), "{}")
    layer = {"mediaType": LAYER, **_add_layer(folder, blobs)}
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": BENTO,
        "config": EMPTY,
        "layers": [layer],
        "annotations": {"org.opencontainers.image.title": name, "org.opencontainers.image.version": version},
    }
    content = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    digest = "sha256:" + hashlib.sha256(content.encode()).hexdigest()
    write_text(_blob(layout, digest), content)
    _index(layout, digest, len(content), version)
    verify(layout, digest)
    return digest


def take(source: Path, digest: str, layout: Path, version: str) -> None:
    """Copy an artifact from another layout into `layout`, after verifying every digest."""
    verify(source, digest)
    content = read_json(_blob(source, digest))
    write_text(layout / "oci-layout", '{"imageLayoutVersion": "1.0.0"}')
    for part in (digest, content["config"]["digest"], *(one["digest"] for one in content["layers"])):
        with whole(_blob(layout, part)) as aside:
            shutil.copyfile(_checked(source, part), aside)
    _index(layout, digest, _blob(layout, digest).stat().st_size, version)


def verify(layout: Path, digest: str) -> Path:
    """Check the manifest and its layer against their digests, and return the layer's path.

    Raises LoopError if a digest does not match.
    """
    manifest = json.loads(_checked(layout, digest).read_text(encoding="utf-8"))
    if manifest.get("artifactType") != BENTO:
        raise LoopError(f"{layout}: {digest} is {manifest.get('artifactType')!r}, not {BENTO!r}")
    (layer,) = manifest["layers"]
    return _checked(layout, str(layer["digest"]))


def unpack(layout: Path, digest: str, into: Path) -> Path:
    """Verify the artifact `digest` and write its bento to `into` atomically.

    Returns `into`. Raises LoopError if a digest does not match.
    """
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


def _add_layer(folder: Path, blobs: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=blobs.parent, prefix=".layer.") as scratch:
        aside = Path(scratch) / "layer"
        _tar(folder, aside)
        name, size = sha256(aside), aside.stat().st_size
        aside.replace(blobs / name)
    return {"digest": f"sha256:{name}", "size": size}


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


def _index(layout: Path, digest: str, size: int, version: str) -> None:
    """Add the manifest to the manifests that index.json already lists."""
    with locked(layout):
        path = layout / "index.json"
        known = read_json(path)["manifests"] if path.is_file() else []
        annotations = {"org.opencontainers.image.ref.name": version}
        entry = {"mediaType": MANIFEST, "digest": digest, "size": size, "artifactType": BENTO}
        others = [m for m in known if m["digest"] != digest]
        manifests = [*others, {**entry, "annotations": annotations}]
        write_text(path, json.dumps({"schemaVersion": 2, "manifests": manifests}, indent=2))


def _blob(layout: Path, digest: str) -> Path:
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        raise LoopError(f"{digest!r} is not a digest", fix="use sha256: and 64 hex digits")
    return layout / "blobs" / "sha256" / digest.removeprefix("sha256:")


def _checked(layout: Path, digest: str) -> Path:
    path = _blob(layout, digest)
    if not path.is_file():
        raise LoopError(f"{layout} has no {digest}", fix="run ./loop image MODEL at the same commit")
    if (found := sha256(path)) != digest.removeprefix("sha256:"):
        raise LoopError(
            f"{path} was changed: its content is sha256:{found}", fix=f"rm {path}; ./loop image MODEL"
        )
    return path
