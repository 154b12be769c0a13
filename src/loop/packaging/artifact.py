"""A bento as an OCI artifact on disk: what Git pins where no container engine runs.

The folder is an OCI image layout (image-spec v1.1), so any OCI tool can push it to a registry as it is.
The same bento is the same digest: names sorted, no times, no owners, no bytecode.
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
EMPTY = {  # the spec's own empty config
    "mediaType": "application/vnd.oci.empty.v1+json",
    "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
    "size": 2,
}


def pack(folder: Path, layout: Path, name: str, version: str) -> str:
    """Put `folder` into the layout (made if need be) and return the manifest's digest, read back."""
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
    """Put an artifact of another layout into `layout` (made if need be), once every digest is verified."""
    verify(source, digest)
    content = read_json(_blob(source, digest))
    write_text(layout / "oci-layout", '{"imageLayoutVersion": "1.0.0"}')
    for part in (digest, content["config"]["digest"], *(one["digest"] for one in content["layers"])):
        with whole(_blob(layout, part)) as aside:
            shutil.copyfile(_checked(source, part), aside)
    _index(layout, digest, _blob(layout, digest).stat().st_size, version)


def verify(layout: Path, digest: str) -> Path:
    """Check the manifest and its layer against their digests; returns the layer. LoopError otherwise."""
    manifest = json.loads(_checked(layout, digest).read_text(encoding="utf-8"))
    if manifest.get("artifactType") != BENTO:
        raise LoopError(f"{layout}: {digest} is {manifest.get('artifactType')!r}, not {BENTO!r}")
    (layer,) = manifest["layers"]
    return _checked(layout, str(layer["digest"]))


def unpack(layout: Path, digest: str, into: Path) -> Path:
    """Write the bento of `digest` to `into`, whole, once every digest is verified; returns `into`."""
    layer = verify(layout, digest)
    with whole(into) as aside, tarfile.open(layer, "r:gz") as tar:
        aside.mkdir()
        for member in tar:
            target = (aside / member.name).resolve()
            if not member.isfile() or not target.is_relative_to(aside.resolve()):
                raise LoopError(f"{layer}: {member.name!r} is not a plain file inside the bento")
            target.parent.mkdir(parents=True, exist_ok=True)
            content = tar.extractfile(member)
            assert content is not None  # noqa: S101 - tarfile's own promise for a plain file
            with target.open("wb") as file:
                shutil.copyfileobj(content, file)
            target.chmod(member.mode)
    return into


def changed(layout: Path, digest: str, folder: Path) -> str:
    """What of a folder is not as `unpack` writes the bento of `digest`; empty where all of it is."""
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
    """Name the manifest in index.json, beside those that are there."""
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
        raise LoopError(f"{digest!r} is not a digest", fix="give sha256: and 64 hex digits")
    return layout / "blobs" / "sha256" / digest.removeprefix("sha256:")


def _checked(layout: Path, digest: str) -> Path:
    path = _blob(layout, digest)
    if not path.is_file():
        raise LoopError(f"{layout} has no {digest}", fix="./loop image MODEL makes it, from the same commit")
    if (found := sha256(path)) != digest.removeprefix("sha256:"):
        raise LoopError(
            f"{path} was changed: its content is sha256:{found}", fix=f"rm {path}; ./loop image MODEL"
        )
    return path
