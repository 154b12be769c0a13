"""Reads pairs of sentences from the STS benchmark's CSV files, or Parquet files with the same columns."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from loop.core.errors import LoopError

COLUMNS = ["sentence1", "sentence2", "score"]  # names for the columns of the CSV files, which have no header
TYPES = {"sentence1": str, "sentence2": str, "score": float}


def read(files: Mapping[str, Path]) -> Iterator[pa.Table]:
    """Yield two rows per pair.

    The file with `test` in its name is the test part; if there is none, the file with `dev` is. A pair that
    occurs twice is used once. A training pair with a sentence of the test part is left out. Raises LoopError
    if there is no file for training and another for the test.
    """
    tested = next((part for part in ("test", "dev") if any(part in _name(file) for file in files)), None)
    if tested is None or len(files) < 2:
        raise LoopError(
            f"{', '.join(files)}: should be a file to train on and a file to test on",
            fix="list files with `train` and with `test` or `dev` in their names",
        )
    pairs = pd.concat([_pairs(path, tested in _name(name)) for name, path in files.items()])
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


def _name(file: str) -> str:
    return file.rpartition("/")[2]


def _pairs(path: Path, test: bool) -> pd.DataFrame:
    """Return the pairs of a file. The texts NA and null are read as texts."""
    if path.suffix == ".parquet":
        found = pd.read_parquet(path, columns=COLUMNS)
    else:
        found = pd.read_csv(path, names=COLUMNS, keep_default_na=False, dtype=TYPES)
    return found.assign(test=test)


def _pair(*texts: Any) -> str:
    return hashlib.sha256("\n".join(sorted(map(str, texts))).encode()).hexdigest()[:16]


def _rows(pairs: pd.DataFrame) -> pa.Table:
    """Return both sentences of each pair as consecutive rows."""
    texts = pairs[["sentence1", "sentence2"]].to_numpy().ravel()
    names = pairs["pair"].repeat(2)
    return pa.table(
        {
            "id": [f"{name}-{place % 2 + 1}" for place, name in enumerate(names)],
            "pair": pa.array(names),
            "text": pa.array(texts, pa.string()),
            "alike": pa.array(pairs["score"].repeat(2).to_numpy()),
            "part": ["test" if test else "train" for test in pairs["test"].repeat(2)],
        }
    )
