"""Reads the published files: Yelp's sentences, one per line, and the archive of IMDB's film reviews.

It also reads Parquet files with `text` and `label` (0 or 1), and `name` for film reviews. These have no test
part, so a hash of the text selects a fifth for the test.
"""

import hashlib
import re
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from loop.core.errors import LoopError

from .schema import CLASSES, COLUMNS
from .scorer import LETTER

# the publisher's dev files are used as the training part
SENTENCES = re.compile(r"sentiment\.(dev|test)\.([01])$")
REVIEW = re.compile(r"aclImdb/(train|test)/(neg|pos)/\d+_\d+\.txt$")
TAG = re.compile(r"</?[a-z]+ ?/?>", re.IGNORECASE)
# Characters of Windows' encoding cp1252 by the code as which they were wrongly decoded.
MISREAD = {code: bytes([code]).decode("cp1252", "ignore") for code in range(0x80, 0xA0)}


class Row(NamedTuple):
    id: str
    text: str
    sentiment: str | None
    domain: str
    part: str


def read(files: Mapping[str, Path]) -> Iterable[pa.Table]:
    """Yield texts with a letter, and of the training part only those that are not in the test part."""
    found = [row for name, path in files.items() for row in _rows(name, path)]
    lettered = [row for row in found if LETTER.search(row.text)]
    tested = {row.text for row in lettered if row.part == "test"}
    kept = [row for row in lettered if row.part == "test" or row.text not in tested]
    print(
        f"{len(found):,} texts; left out: {len(found) - len(lettered):,} without a letter, "
        f"{len(lettered) - len(kept):,} training texts that are also in the test part"
    )
    parts = Counter(f"{row.domain} {row.part}" for row in kept)
    print(", ".join(f"{name}: {count:,}" for name, count in sorted(parts.items())))
    yield pa.table(dict(zip(COLUMNS, map(list, zip(*kept, strict=True)), strict=True)))


def _rows(name: str, path: Path) -> Iterator[Row]:
    last = name.rpartition("/")[2]
    if sentences := SENTENCES.search(last):
        part = {"dev": "train"}.get(sentences[1], sentences[1])
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                yield Row(f"yelp/{last}/{number}", line.strip(), CLASSES[int(sentences[2])], "yelp", part)
    elif last.endswith(".tar.gz"):
        yield from _archive(path)
    elif last.endswith(".parquet"):
        yield from _parquet(path, last.removesuffix(".parquet"))
    else:
        fix = "use files like sentiment.dev.0, aclImdb_v1.tar.gz, or Parquet with `text` and `label`"
        raise LoopError(f"{name}: src/models/sentiment_analysis/source.py cannot read this file", fix=fix)


def _archive(path: Path) -> Iterator[Row]:
    with tarfile.open(path) as archive:
        for member in archive:
            if (review := REVIEW.search(member.name)) and (content := archive.extractfile(member)):
                sentiment = {"neg": "negative", "pos": "positive"}[review[2]]
                text = cleaned(content.read().decode("utf-8"))
                yield Row(member.name.replace("aclImdb", "imdb"), text, sentiment, "imdb", review[1])


def _parquet(path: Path, stem: str) -> Iterator[Row]:
    table = pq.read_table(path)
    domain = "imdb" if "name" in table.column_names else "yelp"
    texts, labels = table["text"].to_pylist(), table["label"].to_pylist()
    # other labels are kept as they are, and validation rejects them
    said: dict[int | None, str | None] = {None: None, **dict(enumerate(CLASSES))}
    for number, (raw, label) in enumerate(zip(texts, labels, strict=True), 1):
        text = cleaned(raw or "")
        part = "test" if hashlib.sha256(text.encode()).digest()[0] % 5 == 0 else "train"
        yield Row(f"{domain}/{stem}/{number}", text, said.get(label, str(label)), domain, part)


def cleaned(text: str) -> str:
    """Return a text without HTML tags, and with wrongly decoded punctuation corrected."""
    return TAG.sub(" ", text.translate(MISREAD)).strip()
