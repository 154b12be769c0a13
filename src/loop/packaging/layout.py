"""Reads and writes OCI image layouts (image-spec v1.1); an engine's image is stored as one before the push.

The output of `docker save` does not contain the digest that a registry will use. Therefore the layers are
compressed here, by gzip without a time. The manifest records each layer's uncompressed size, so that an
image's size is known without downloading its layers.
"""

import gzip
import hashlib
import json
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from loop.core.errors import LoopError
from loop.core.files import read_json, sha256, whole, write_text

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
EMPTY = "application/vnd.oci.empty.v1+json"  # media type of an artifact's empty config
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
UNPACKED = "vnd.loop.unpacked"  # a layer's annotation


def write(archive: Path, layout: Path) -> str:
    """Write the only image of a `docker save` archive as a layout, atomically.

    Returns the digest of its manifest. Layers may be uncompressed, gzip or zstd. Raises LoopError if the
    archive does not match the image's config.
    """
    with whole(layout) as aside, tarfile.open(archive, "r:") as tar:
        images = json.loads(_member(tar, "manifest.json").read())
        if len(images) != 1:
            wrong = f"{archive}: has {len(images)} images, should be one"
            raise LoopError(wrong, fix="build for one platform")
        names, content = images[0]["Layers"] or [], _member(tar, images[0]["Config"]).read()
        config = json.loads(content)
        described = add(aside, content, CONFIG)
        layers = [
            _layer(_member(tar, name), aside, diff)
            for name, diff in zip(names, config["rootfs"]["diff_ids"], strict=True)
        ]
        return finish(aside, described, layers)


def single(layout: Path, kind: str, content: bytes) -> str:
    """Write an artifact with one layer of media type `kind`. Returns the digest of its manifest."""
    with whole(layout) as aside:
        return finish(aside, add(aside, b"{}", EMPTY), [add(aside, content, kind)])


def add(layout: Path, content: bytes, kind: str) -> dict[str, Any]:
    """Write a blob of media type `kind`. Returns its descriptor."""
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    with whole(blob(layout, digest)) as aside:
        aside.write_bytes(content)
    return {"mediaType": kind, "digest": digest, "size": len(content)}


def move(file: Path, layout: Path, kind: str) -> dict[str, Any]:
    """Move a file of the same file system to the blobs. Returns its descriptor."""
    digest, size = f"sha256:{sha256(file)}", file.stat().st_size
    file.rename(blob(layout, digest))
    return {"mediaType": kind, "digest": digest, "size": size}


def finish(layout: Path, config: dict[str, Any], layers: list[dict[str, Any]], **others: Any) -> str:
    """Write the manifest and the index, which make a folder of blobs a layout. Returns the digest."""
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers, **others}
    described = add(layout, json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode(), MANIFEST)
    write_text(layout / "oci-layout", '{"imageLayoutVersion": "1.0.0"}')
    write_text(layout / "index.json", json.dumps({"schemaVersion": 2, "manifests": [described]}, indent=2))
    return str(described["digest"])


def blob(layout: Path, digest: str) -> Path:
    """Return the path of a blob. Raises LoopError for a tag or anything else that is not a digest."""
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        raise LoopError(f"{digest!r} is not a digest", fix="use sha256: and 64 hex digits")
    return layout / "blobs" / "sha256" / digest.removeprefix("sha256:")


def files(layout: Path) -> list[Path]:
    """Return the files of a layout."""
    return [layout / "oci-layout", layout / "index.json", *layout.glob("blobs/sha256/[0-9a-f]*")]


def verify(layout: Path, fix: str = "build it again") -> str:
    """Return the digest of the only image. Raises LoopError if a blob or the index is missing or changed."""
    try:
        for path in (layout / "blobs" / "sha256").iterdir():
            if (found := sha256(path)) != path.name:
                raise LoopError(f"{path} was changed: its content is sha256:{found}", fix=fix)
        (described,) = read_json(layout / "index.json")["manifests"]
        made = manifest(layout, described["digest"])
        for part in (made["config"], *made["layers"]):
            if not blob(layout, part["digest"]).is_file():
                raise LoopError(f"{layout} has no {part['digest']}", fix=fix)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LoopError(f"{layout} is damaged: {type(error).__name__}: {error}", fix=fix) from error
    return str(described["digest"])


def manifest(layout: Path, digest: str) -> dict[str, Any]:
    """Return the manifest with this digest from a layout."""
    return dict(read_json(blob(layout, digest)))


def platform(layout: Path, digest: str) -> str:
    """Return the platform of an image in a layout, such as `linux/amd64`."""
    config = read_json(blob(layout, manifest(layout, digest)["config"]["digest"]))
    return f"{config.get('os', 'linux')}/{config.get('architecture', 'unknown')}"


def unpacked(manifest: dict[str, Any]) -> int:
    """Return the uncompressed bytes of an image that `write` has written."""
    return sum(int(layer["annotations"][UNPACKED]) for layer in manifest["layers"])


def _layer(source: IO[bytes], layout: Path, diff: str) -> dict[str, Any]:
    """Compress a layer, so that all engines' equal content has equal digests. Returns its descriptor."""
    aside, content, unpacked = layout / "aside", hashlib.sha256(), 0
    with aside.open("wb") as raw, gzip.GzipFile("", "wb", compresslevel=6, fileobj=raw, mtime=0) as zipped:
        for chunk in _unpacked(source):
            content.update(chunk)
            unpacked += len(chunk)
            zipped.write(chunk)
    if diff != (found := f"sha256:{content.hexdigest()}"):
        wrong = f"a layer of the engine's image is {found}, but its config says {diff}"
        raise LoopError(wrong, fix="build it again")
    return {**move(aside, layout, LAYER), "annotations": {UNPACKED: str(unpacked)}}


def _unpacked(source: IO[bytes]) -> Iterator[bytes]:
    """Yield a layer's uncompressed bytes; its first bytes show the compression."""
    codec = {b"\x1f\x8b": "gzip", b"\x28\xb5": "zstd"}.get(source.read(2))
    source.seek(0)
    stream: Any = source
    if codec:
        import pyarrow as pa  # pyarrow unpacks zstd, which Python supports only from version 3.14

        stream = pa.CompressedInputStream(pa.PythonFile(source, mode="r"), codec)
    return iter(lambda: stream.read(1 << 20), b"")


def _member(tar: tarfile.TarFile, name: str) -> IO[bytes]:
    """Return a file of the archive, in which a layer may be a link to another."""
    found = tar.extractfile(name) if name in tar.getnames() else None
    if found is None:
        raise LoopError(f"the engine's archive has no {name}", fix="build it again")
    return found
