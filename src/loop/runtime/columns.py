"""Rows whose features are not all numbers, as {feature: array}.

Datatypes are those of the Open Inference Protocol V2. Each array has the shape (n,), and a missing value is
NaN or None: FP64 is float64; INT64 int64; BOOL bool; BYTES object, of str, or of bytes if `content_type` is
base64. An input of rank 2 is an object array with a list per row. Training and serving create the same
arrays, so a scorer sees no difference.
"""

import base64
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

Columns = dict[str, NDArray[Any]]

Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
# a value's type in JSON and in an array
KINDS: dict[str, tuple[Any, Any]] = {
    "FP64": (float, np.float64),
    "INT64": (Int64, np.int64),
    "BOOL": (bool, np.bool_),
    "BYTES": (str, object),
}
OTHER, MISSING = -1, -2  # codes in a profile for a text outside the known categories, and for a missing text


class BadRow(ValueError):
    """A scorer raises this for a row that it cannot process; the caller gets a 422 with its message."""


class Input(msgspec.Struct, frozen=True):
    """An input in meta.json; -1 in `shape` stands for any length."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    parameters: dict[str, str] = {}

    @property
    def listed(self) -> bool:
        """Whether each row has a list of values for this input. FP32 is the matrix of all features."""
        return len(self.shape) > 1 and self.datatype != "FP32"

    @property
    def encoded(self) -> bool:
        """Whether the bytes are base64 in JSON."""
        return self.parameters.get("content_type") == "base64"

    @property
    def element(self) -> Any:
        """The type of a value, or of each value in a list. msgspec reads bytes from base64."""
        return bytes if self.encoded else KINDS[self.datatype][0]

    @property
    def kind(self) -> Any:
        """The type of a row's value."""
        return list[self.element] if self.listed else self.element  # type: ignore[name-defined]

    def column(self, values: Sequence[Any]) -> NDArray[Any]:
        """Return values of the type `kind`, or None, as an array (n,)."""
        if self.datatype == "BYTES" or self.listed:
            # np.array would turn lists of equal length into a matrix
            return np.fromiter(values, dtype=object, count=len(values))
        return np.array(values, KINDS[self.datatype][1])

    def json(self, value: Any) -> Any:
        """Return one element of an array from `column` as a JSON value."""
        if isinstance(value, bytes):
            return base64.b64encode(value).decode()
        if isinstance(value, np.ndarray):
            return value.tolist()
        plain = value.item() if isinstance(value, np.generic) else value
        return None if isinstance(plain, float) and np.isnan(plain) else plain


def row(inputs: Sequence[Input], values: Mapping[str, Any]) -> Columns:
    """Return one row of JSON values as columns."""
    return {of.name: of.column([msgspec.convert(values[of.name], of.kind | None)]) for of in inputs}


def key(inputs: Sequence[Input]) -> str:
    """Return a body's key for rows: `features`, or the only input's name if it is a text, image or list."""
    alone = len(inputs) == 1 and (inputs[0].datatype == "BYTES" or inputs[0].listed)
    return inputs[0].name if alone else "features"


def by_place(inputs: Sequence[Input]) -> bool:
    """Whether a row may be a list of values: not if a feature is a list, as a row would look like several."""
    return not any(each.listed for each in inputs)


def size(rows: NDArray[Any] | Columns) -> int:
    """Return the number of rows."""
    return len(next(iter(rows.values()))) if isinstance(rows, dict) else len(rows)


def together(parts: Sequence[Any]) -> Any:
    """Concatenate the rows of several requests."""
    if len(parts) == 1:
        return parts[0]
    if isinstance(parts[0], dict):
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return np.concatenate(parts)


def take(rows: Any, numbers: Any) -> Any:
    """Return the rows at the indexes `numbers`, in that order."""
    if isinstance(rows, dict):
        return {name: column[numbers] for name, column in rows.items()}
    return rows[numbers]


def categories(texts: Iterable[str | None], most: int = 50) -> list[str]:
    """Return the `most` most frequent texts, sorted by descending frequency, then alphabetically."""
    counts = Counter(text for text in texts if text is not None)
    return sorted(counts, key=lambda text: (-counts[text], text))[:most]


def numbers(rows: Columns, known: Mapping[str, Sequence[str]]) -> dict[str, NDArray[Any]]:
    """Return the default profile of rows: each feature as numbers (n,), for the prediction log and drift.

    Numbers are unchanged. A text becomes the index of its category in `known` as int16, or OTHER if it is not
    in `known`, or MISSING if it is null. Bytes and lists become their lengths.
    """
    found: dict[str, NDArray[Any]] = {}
    for name, column in rows.items():
        if column.dtype != object:
            found[name] = column.astype(np.float64)
        elif name in known:
            places = {text: place for place, text in enumerate(known[name])}
            codes = (MISSING if text is None else places.get(text, OTHER) for text in column)
            found[name] = np.fromiter(codes, np.int16, len(column))
        else:
            found[name] = np.array([np.nan if value is None else len(value) for value in column], np.float64)
    return found
