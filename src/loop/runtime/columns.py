"""Rows whose features are not all numbers: one array a feature, by name.

The words are those of the Open Inference Protocol V2. An array is (n,), and a gap in it is NaN or None:
FP64 float64; INT64 int64; BOOL bool; BYTES object, of str, or of bytes where `content_type` is base64. An
input of rank 2 is a list a row: an object array of lists. Training and serving make the same arrays, so that
a scorer sees no difference.
"""

import base64
import binascii
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

Columns = dict[str, NDArray[Any]]

DTYPES = {"FP32": np.float32, "FP64": np.float64, "INT64": np.int64, "BOOL": np.bool_, "BYTES": object}
KINDS: dict[str, tuple[Any, str]] = {
    "FP64": (float, "a number"),
    "INT64": (int, "a whole number of 64 bits"),
    "BOOL": (bool, "true or false"),
    "BYTES": (str, "text"),
}
OTHER, MISSING = -1, -2  # codes in a profile: a value that is no category, and none at all


class BadRow(ValueError):
    """A scorer raises it for a row that it can't take, such as bytes that are no image.

    It is the caller's mistake, so the answer is a 422 with this text.
    """


class Input(msgspec.Struct, frozen=True):
    """An input of meta.json; -1 in its shape stands for any number."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    parameters: dict[str, str] = {}

    @property
    def listed(self) -> bool:
        """Whether each row has a list of values, in a column. Only a matrix of all features is FP32."""
        return len(self.shape) > 1 and self.datatype != "FP32"

    @property
    def encoded(self) -> bool:
        """Whether JSON has the bytes as base64."""
        return self.parameters.get("content_type") == "base64"

    @property
    def kind(self) -> Any:
        """The type that a value has in JSON, as msgspec checks it."""
        kind: Any = KINDS[self.datatype][0]
        return list[kind] if self.listed else kind

    @property
    def wanted(self) -> str:
        """What a value should be, in words."""
        one = "base64 of bytes" if self.encoded else KINDS[self.datatype][1]
        return f"a list, each {one}" if self.listed else one

    def column(self, values: Sequence[Any]) -> NDArray[Any]:
        """The array (n,) of JSON values; ValueError for invalid base64 or an integer over 64 bits."""
        if self.encoded:
            values = [value if value is None else _bytes(value) for value in values]
        if self.datatype == "BYTES" or self.listed:
            return np.fromiter(values, dtype=object, count=len(values))  # np.array would make lists a matrix
        try:
            return np.array(values, DTYPES[self.datatype])
        except OverflowError:
            raise ValueError("a number is too large") from None

    def json(self, value: Any) -> Any:
        """The JSON form of one element of an array that `column` made."""
        if isinstance(value, bytes):
            return base64.b64encode(value).decode()
        if isinstance(value, np.ndarray):
            return value.tolist()
        plain = value.item() if isinstance(value, np.generic) else value
        return None if isinstance(plain, float) and np.isnan(plain) else plain


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("the text is no base64") from None


def key(inputs: Sequence[Input]) -> str:
    """Where a request's body has its rows: `features`, or a single text's, image's or list's own name."""
    alone = len(inputs) == 1 and (inputs[0].datatype == "BYTES" or inputs[0].listed)
    return inputs[0].name if alone else "features"


def by_place(inputs: Sequence[Input]) -> bool:
    """Whether a row may be a list. Where a feature is a list, nobody could tell a row from several."""
    return not any(each.listed for each in inputs)


def size(rows: NDArray[Any] | Columns) -> int:
    """How many rows."""
    return len(next(iter(rows.values()))) if isinstance(rows, dict) else len(rows)


def together(parts: Sequence[Any]) -> Any:
    """The rows of several requests as those of one."""
    if len(parts) == 1:
        return parts[0]
    if isinstance(parts[0], dict):
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return np.concatenate(parts)


def take(rows: Any, numbers: Any) -> Any:
    """Those rows, in that order."""
    return (
        {name: column[numbers] for name, column in rows.items()} if isinstance(rows, dict) else rows[numbers]
    )


def categories(texts: Iterable[str | None], most: int = 50) -> list[str]:
    """The most frequent texts, by how often they occur and then by name."""
    counts = Counter(text for text in texts if text is not None)
    return sorted(counts, key=lambda text: (-counts[text], text))[:most]


def numbers(rows: Columns, known: Mapping[str, Sequence[str]]) -> dict[str, NDArray[Any]]:
    """The profile of a model that has none of its own: each feature as numbers, for log and drift.

    A number stays what it is. A text is the place of its category in `known`, as int16: OTHER where it is
    none of them, MISSING where there is none. Bytes and lists are their lengths.
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
