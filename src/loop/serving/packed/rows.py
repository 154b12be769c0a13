"""From a request's body to rows of floats; what is wrong with it is said by field and position.

What is right is decoded straight into floats; everything else is read again by the way that can say what is
wrong with it, and that way alone decides what is refused.
"""

import warnings
import zlib
from dataclasses import dataclass
from io import BytesIO
from math import prod
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

Id = int | str | None
NPY = b"application/x-npy"  # NumPy's own file format, version 1 to 3: rows of float32 or float64
HEADERS: dict[tuple[int, int], Any] = {  # readers by the version that the body names
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
    (
        3,
        0,
    ): np.lib.format.read_array_header_2_0,  # UTF-8 in place of Latin-1: names of fields, which we refuse
}
DIMENSIONS, MOST = 8, 200  # that are repeated in an error; characters of what NumPy says
LONGEST_ID = 128  # characters
OVER = float(2**128 - 2**103)  # the least that no float32 rounds to: half a step over the greatest
TYPES = {bool: "a boolean", str: "a string", list: "a list", dict: "an object", type(None): "null"}


class BadRequest(Exception):
    """The caller's mistake: a 4xx with the field at fault. `reason` is a metric's label.

    `unread`: the body has not come to its end, and the rest of it is not looked at.
    """

    def __init__(
        self,
        error: str,
        field: str = "",
        *,
        status: int = 422,
        reason: str = "features",
        unread: bool = False,
    ) -> None:
        super().__init__(error)
        self.error, self.field, self.status, self.reason = error, field, status, reason
        self.unread = unread


@dataclass(frozen=True)
class Rows:
    """What was asked for: (n, f) rows, an id for each, and whether the caller sent a list of rows."""

    values: NDArray[np.float32]
    ids: list[Id]
    many: bool
    named: bool  # ids were given, so they are echoed


class _One(msgspec.Struct, forbid_unknown_fields=True):
    features: list[float]
    id: Id = None


class _Many(msgspec.Struct, forbid_unknown_fields=True):
    features: list[list[float]]
    id: list[Id] | None = None


ONE, MANY = msgspec.json.Decoder(_One), msgspec.json.Decoder(_Many)


def decoded(body: bytes, coding: bytes, most: int) -> bytes:
    """A body without its Content-Encoding, of `most` bytes at most: gzip, one member, or none."""
    if (name := coding.strip().lower()) in (b"", b"identity"):
        return body
    if name not in (b"gzip", b"x-gzip"):
        said = f"Content-Encoding is {coding.decode('latin-1')[:MOST]!r}, should be gzip or not be set"
        raise BadRequest(said, status=415, reason="encoding")
    inflating = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        plain = inflating.decompress(body, most + 1)
    except zlib.error as error:
        raise BadRequest(f"the body is not gzip: {error}", status=400, reason="encoding") from None
    if len(plain) > most:
        raise BadRequest(f"the body, without its gzip, is over {most} bytes", status=413, reason="size")
    if not inflating.eof or inflating.unused_data:
        wrong = "holds more than one gzip member" if inflating.eof else "ends before its gzip does"
        raise BadRequest(f"the body {wrong}", status=400, reason="encoding")
    return plain


def parse(body: bytes, names: tuple[str, ...], max_rows: int) -> Rows:
    """Parse `{"features": one row or a list of rows, "id": one or a list}`; a row is a list, or an object."""
    return _one(body, len(names)) or _many(body, len(names), max_rows) or _explained(body, names, max_rows)


def parse_npy(body: bytes, names: tuple[str, ...], max_rows: int) -> Rows:
    """Parse NumPy's .npy: one row (f,) or many (n, f), float32 or float64, in C order."""
    shape, dtype, start = _header(body)
    if len(shape) not in (1, 2) or shape[-1] != len(names):
        raise BadRequest(
            f"the array is {_told(shape)}; it must be (rows, {len(names)}): {', '.join(names)}", "features"
        )
    many, rows = len(shape) == 2, prod(shape[:-1])  # noqa: PLR2004
    if rows * len(names) * dtype.itemsize != len(body) - start:
        said = f"the body holds {len(body) - start} bytes of an array {_told(shape)} of {dtype}"
        raise BadRequest(said, status=400, reason="json")
    if not 0 < rows <= max_rows:
        status, reason = (413, "size") if rows else (422, "features")
        error = f"has {rows} rows; 1 to {max_rows} may be"
        raise BadRequest(error, "features", status=status, reason=reason)
    with np.errstate(over="ignore"):
        values = np.frombuffer(body, dtype, offset=start).reshape(rows, -1).astype(np.float32)
    where = [f"features[{i}]" for i in range(rows)] if many else ["features"]
    return Rows(_finite(values, names, where), [None] * rows, many=many, named=False)


def _header(body: bytes) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """What a .npy says of its array: shape and type; and where its bytes begin. Nothing is made of it yet."""
    file = BytesIO(body)
    try:
        with warnings.catch_warnings(action="ignore"):  # what Python 2 wrote is read too
            if (version := np.lib.format.read_magic(file)) not in HEADERS:
                raise ValueError(f"version {version} is not known")  # noqa: TRY301 - answered as NumPy's own
            shape, fortran, dtype = HEADERS[version](file)
    except Exception as error:  # noqa: BLE001 - NumPy reads the header as Python: whatever that may raise
        said = f"the body is not a .npy: {type(error).__name__} {str(error)[:MOST]}"
        raise BadRequest(said, status=400, reason="json") from None
    if not all(type(length) is int and 0 <= length < 2**63 for length in shape):
        said = "the body is not a .npy: a length in its shape is negative, too large or no integer"
        raise BadRequest(said, status=400, reason="json")
    if fortran or dtype.kind != "f" or dtype.itemsize not in (4, 8):
        order = "Fortran" if fortran else "C"
        said = f"the array is {str(dtype)[:MOST]} in {order} order; float32 or float64 in C order"
        raise BadRequest(said, "features")
    return shape, dtype, file.tell()


def _told(shape: tuple[int, ...]) -> str:
    return str(shape) if len(shape) <= DIMENSIONS else f"of {len(shape)} dimensions"


def _one(body: bytes, width: int) -> Rows | None:
    """One row by position, where the body is right; None otherwise."""
    try:
        asked = ONE.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return None
    features, given = asked.features, asked.id
    if len(features) != width or max(features) >= OVER or min(features) <= -OVER or not _fits(given):
        return None
    return Rows(np.array([features], np.float32), [given], many=False, named=given is not None)


def _many(body: bytes, width: int, most: int) -> Rows | None:
    """Rows by position, where the body is right; None otherwise."""
    try:
        asked = MANY.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return None
    rows, given = asked.features, asked.id
    if not 0 < len(rows) <= most or any(len(row) != width for row in rows):
        return None
    if given is not None and (len(given) != len(rows) or not all(map(_fits, given))):
        return None
    with np.errstate(over="ignore"):
        values = np.array(rows, np.float64).astype(np.float32)
    if not np.isfinite(values).all():
        return None
    return Rows(values, given or [None] * len(rows), many=True, named=given is not None)


def _explained(body: bytes, names: tuple[str, ...], max_rows: int) -> Rows:
    """Rows by position or by name; BadRequest with the first thing that is wrong."""
    document = _decode(body)
    if unknown := sorted(document.keys() - {"features", "id"}):
        raise BadRequest("is not known; a request has `features` and, if you like, `id`", unknown[0])
    if "features" not in document:
        raise BadRequest("is missing", "features")
    features = document["features"]
    many = isinstance(features, list) and bool(features) and isinstance(features[0], list | dict)
    rows = features if many else [features]
    if len(rows) > max_rows:
        raise BadRequest(f"has {len(rows)} rows; {max_rows} at most", "features", status=413, reason="size")
    where = [f"features[{i}]" for i in range(len(rows))] if many else ["features"]
    ordered = [_ordered(row, names, at) for row, at in zip(rows, where, strict=True)]
    named = document.get("id") is not None
    ids = _ids(document["id"] if named else [None] * len(rows), len(rows), many=many or not named)
    return Rows(_float32(ordered, names, where), ids, many, named)


def _decode(body: bytes) -> dict[str, Any]:
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise BadRequest(f"the body is not JSON: {error}", status=400, reason="json") from None
    if not isinstance(document, dict):
        raise BadRequest(f"the body is {_kind(document)}; it must be an object", status=400, reason="json")
    return document


def _ordered(row: Any, names: tuple[str, ...], where: str) -> list[Any]:
    """A row's numbers in the model's order."""
    if isinstance(row, dict):
        if absent := [name for name in names if name not in row]:
            raise BadRequest("is missing", f"{where}.{absent[0]}")
        if unknown := sorted(row.keys() - set(names)):
            raise BadRequest(f"is not a feature; they are {', '.join(names)}", f"{where}.{unknown[0]}")
        places, values = [f"{where}.{name}" for name in names], [row[name] for name in names]
    elif isinstance(row, list):
        if len(row) != len(names):
            raise BadRequest(f"has {len(row)} values; it must have {len(names)}: {', '.join(names)}", where)
        places, values = [f"{where}[{i}]" for i in range(len(names))], row
    else:
        raise BadRequest(f"is {_kind(row)}; it must be a list of numbers or an object of them", where)
    for value, place, name in zip(values, places, names, strict=True):
        if type(value) is not float and type(value) is not int:
            raise BadRequest(f"is {_kind(value)}; {name} is a number", place)
    return values


def _float32(rows: list[list[Any]], names: tuple[str, ...], where: list[str]) -> NDArray[np.float32]:
    """The rows as float32; a number too large for that is an error, not an infinity."""
    try:
        with np.errstate(over="ignore"):
            values = np.array(rows, dtype=np.float64).astype(np.float32)
    except OverflowError:
        raise BadRequest("holds a number that is too large for a float", where[0]) from None
    return _finite(values, names, where)


def _finite(values: NDArray[np.float32], names: tuple[str, ...], where: list[str]) -> NDArray[np.float32]:
    if not (finite := np.isfinite(values)).all():
        row, column = (int(i) for i in np.argwhere(~finite)[0])
        raise BadRequest(f"{names[column]} is too large for a 32-bit float", f"{where[row]}[{column}]")
    return values


def _ids(given: Any, rows: int, *, many: bool) -> list[Id]:
    if many and not (isinstance(given, list) and len(given) == rows):
        raise BadRequest(f"must be a list of {rows}, one for each row", "id", reason="id")
    ids = given if many else [given]
    for position, value in enumerate(ids):
        if not _fits(value):
            place = f"id[{position}]" if many else "id"
            error = f"must be a string of at most {LONGEST_ID} characters or an integer of 64 bits"
            raise BadRequest(error, place, reason="id")
    return list(ids)


def _fits(value: Any) -> bool:
    if type(value) is str:
        return len(value) <= LONGEST_ID
    return value is None or (type(value) is int and abs(value) < 2**63)


def _kind(value: Any) -> str:
    return TYPES.get(type(value), "a number")
