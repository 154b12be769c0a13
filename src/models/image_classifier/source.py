"""Reads MNIST from the publisher's IDX files, or from Parquet or CSV files, which are split here."""

import gzip
import hashlib
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from loop.core.errors import LoopError

PARTS = {"train": "train", "t10k": "test"}  # part by the prefix of the publisher's file names
IMAGES, LABELS = "-images-idx3-ubyte.gz", "-labels-idx1-ubyte.gz"
TESTED = 6  # in sources without a test part, one image in 6 is for testing, close to MNIST's own share


def read(files: Mapping[str, Path]) -> Iterator[pa.Table]:
    """Yield the schema's columns of each file.

    Names end as the publisher's do, or with .parquet or .csv.gz. Raises LoopError for another name.
    """
    for name, path in sorted(files.items()):
        if name.endswith((IMAGES, LABELS)):
            yield from _pair(name, files)
        elif name.endswith(".parquet"):
            rows = pq.read_table(path)
            yield _split(rows["id"].cast(pa.string()), rows["image"].to_pylist(), rows["label"])
        elif name.endswith(".csv.gz"):
            cells = np.loadtxt(path, np.uint8, delimiter=",")  # each line has 784 pixels, then the label
            images = [png(row.reshape(28, 28)) for row in cells[:, :-1]]
            yield _split(map(str, range(len(cells))), images, cells[:, -1])
        else:
            fix = "set `source` to IDX files, .parquet or .csv.gz"
            raise LoopError(f"{name}: is not a file of MNIST", fix=fix)


def _pair(name: str, files: Mapping[str, Path]) -> Iterator[pa.Table]:
    """Yield the rows of a file of images and its file of labels. The file of labels alone yields nothing."""
    place = name.removesuffix(IMAGES).removesuffix(LABELS)
    images, labels, part = place + IMAGES, place + LABELS, PARTS.get(place.rpartition("/")[2])
    if lacking := [other for other in (images, labels) if other not in files]:
        raise LoopError(f"{name}: the source has no {lacking[0]}", fix="list both in ingest.source")
    if part is None:
        fix = "use the publisher's file name"
        raise LoopError(f"{name}: should begin with one of {', '.join(PARTS)}", fix=fix)
    if name == images:
        drawn = [*map(png, idx(files[images]))]
        ids = [f"{part} {number}" for number in range(len(drawn))]
        yield _table(ids, drawn, idx(files[labels]), [part] * len(ids))


def idx(path: Path) -> NDArray[np.uint8]:
    """Return the array of a gzipped IDX file of bytes. Raises LoopError if it is truncated."""
    broken = LoopError(f"{path.name}: is not an IDX file of bytes, or is truncated", fix="download it again")
    try:
        with gzip.open(path) as file:
            content = file.read()
        sizes = np.frombuffer(content, ">u4", content[3], offset=4)
    except (OSError, EOFError, IndexError, ValueError) as error:
        raise broken from error
    begin = 4 + 4 * len(sizes)
    if content[:3] != b"\0\0\x08" or len(content) - begin != sizes.prod():
        raise broken
    return np.frombuffer(content, np.uint8, offset=begin).reshape(sizes)


def png(pixels: NDArray[np.uint8]) -> bytes:
    """Return a grey image as PNG."""
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _split(ids: Any, images: list[bytes], labels: Any) -> pa.Table:
    """Return rows of a source without parts, in which a hash of the image chooses the part."""
    digests = (hashlib.sha256(image or b"").digest() for image in images)
    parts = ["train" if int.from_bytes(digest[:8]) % TESTED else "test" for digest in digests]
    return _table(ids, images, labels, parts)


def _table(ids: Any, images: list[bytes], labels: Any, parts: list[str]) -> pa.Table:
    columns = {"id": pa.array(list(ids)), "image": pa.array(images), "part": pa.array(parts)}
    return pa.table({**columns, "label": labels if isinstance(labels, pa.ChunkedArray) else pa.array(labels)})
