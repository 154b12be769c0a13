"""Reads pairs of sentences from the STS benchmark's CSV files, or from CSV or Parquet with named columns."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from loop.core.errors import LoopError
from loop.core.text import one_line

COLUMNS = ["sentence1", "sentence2", "score"]  # the order of these in CSV files without a header
PARTS = {"train", "test"}


def read(files: Mapping[str, Path]) -> Iterator[pa.Table]:
    """Yield two rows per pair.

    The column `part` says whether a pair is for `train` or `test`. Without that column, the files with the
    word `test` in their name are the test part. If there is no such file, the files with the word `dev` are.
    A pair that occurs twice is used once. A training pair with a sentence of the test part is left out.
    Raises LoopError if a file cannot be read, or if no pair is for training or none for the test.
    """
    words = {name: re.findall("[a-z]+", name.rpartition("/")[2].lower()) for name in files}
    tested = next((word for word in ("test", "dev") if any(word in found for found in words.values())), "")
    pairs = pd.concat(
        [_pairs(name, path, "test" if tested in words[name] else "train") for name, path in files.items()]
    )
    if lacking := PARTS - {*pairs["part"]}:
        fix = "add a column `part` with train or test, or list a file with the word `test` in its name"
        raise LoopError(f"{', '.join(files)}: found no pair for {' or '.join(sorted(lacking))}", fix=fix)
    pairs["test"] = pairs["part"] == "test"
    pairs = pairs.sort_values("test", ascending=False, kind="stable")
    pairs["pair"] = [*map(_pair, pairs["sentence1"], pairs["sentence2"])]
    once = pairs.drop_duplicates("pair")
    seen = {*once.loc[once["test"], ["sentence1", "sentence2"]].to_numpy().ravel()}
    leaks = ~once["test"] & (once["sentence1"].isin(seen) | once["sentence2"].isin(seen))
    print(
        f"{len(pairs) - len(once)} of {len(pairs)} pairs are duplicates; {leaks.sum()} training pairs are "
        "left out, because the test part contains one of their sentences"
    )
    yield _rows(once[~leaks])


def _pairs(name: str, path: Path, part: str) -> pd.DataFrame:
    """Return a file's pairs, which are for `part` unless the file has that column."""
    try:
        found = _table(path)
    except ValueError as error:
        raise LoopError(
            f"{name}: expected sentence1, sentence2 and score, a number: {one_line(error)}",
            fix="name the columns in the first line, or write these three alone, as CSV in UTF-8 or Parquet",
        ) from error
    return (found if "part" in found else found.assign(part=part))[[*COLUMNS, "part"]]


def _table(path: Path) -> pd.DataFrame:
    """Return a file's table, by its content Parquet or CSV. Raises ValueError if it is no table of pairs."""
    with path.open("rb") as file:
        is_parquet = file.read(4) == b"PAR1"
    found = pd.read_parquet(path) if is_parquet else _csv(path)
    if not {*COLUMNS} <= {*found}:
        raise ValueError(f"found the columns {', '.join(found)}")
    return found.assign(score=found["score"].astype(float))


def _csv(path: Path) -> pd.DataFrame:
    """Return a CSV file with or without a header. The texts NA and null are read as texts."""
    found = pd.read_csv(path, header=None, keep_default_na=False, dtype=str)
    first = [*found.iloc[0]]
    if len(first) == len(COLUMNS) and {*first} != {*COLUMNS}:
        return found.set_axis(COLUMNS, axis=1)
    return found[1:].set_axis(first, axis=1)


def _pair(*texts: Any) -> str:
    return hashlib.sha256("\n".join(sorted(map(str, texts))).encode()).hexdigest()[:16]


def _rows(pairs: pd.DataFrame) -> pa.Table:
    texts = pairs[["sentence1", "sentence2"]].to_numpy().ravel()
    names = pairs["pair"].repeat(2)
    return pa.table(
        {
            "id": [f"{name}-{place % 2 + 1}" for place, name in enumerate(names)],
            "pair": pa.array(names),
            "text": pa.array(texts, pa.string()),
            "alike": pa.array(pairs["score"].repeat(2).to_numpy()),
            "part": pa.array(pairs["part"].repeat(2)),
        }
    )
