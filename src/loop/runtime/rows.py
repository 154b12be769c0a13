"""Converts the body of a request to rows.

Errors name the field and the position that is wrong. A valid body is decoded directly into the model's types.
If that fails, the body is decoded again value by value. Only this second decoding decides whether it is
refused, because it can say why.
"""

import warnings
import zlib
from collections.abc import Iterable, Sequence
from io import BytesIO
from math import prod
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from loop.runtime import columns
from loop.runtime.model import Meta, Values

Id = int | str | None
# media type of NumPy's file format (versions 1 to 3), which holds rows of float32 or float64
NPY = b"application/x-npy"
# Header readers by format version. Version 3 differs from 2 only in the encoding of field names, and arrays
# with fields are refused.
HEADERS: dict[tuple[int, int], Any] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
    (3, 0): np.lib.format.read_array_header_2_0,
}
DIMENSIONS, MOST = 8, 200  # limits for error messages: dimensions of a shape, characters of NumPy's message
LONGEST_ID = 128  # maximum characters of a row's id
OVER = float(2**128 - 2**103)  # the smallest number that does not round to a finite float32
REASONS = {400: "json", 408: "timeout", 413: "size", 415: "encoding", 429: "overload"}
TYPES = {bool: "a boolean", str: "a string", list: "a list", dict: "an object", type(None): "null"}
ANY = msgspec.json.Decoder()
T = TypeVar("T")


class BadRequest(Exception):
    """A mistake of the caller, answered with a 4xx; `reason` is its label in the metrics."""

    def __init__(
        self, error: str, field: str = "", status: int = 422, reason: str = "", unread: bool = False
    ) -> None:
        super().__init__(error)
        self.error, self.field, self.status, self.unread = error, field, status, unread
        self.reason = reason or REASONS.get(status, "features")


class Rows(msgspec.Struct, frozen=True):
    """The n rows of a request, with their ids; `many` is whether the caller sent a list of rows."""

    values: Values
    ids: list[Id]
    many: bool
    named: bool  # the caller gave ids, so the response contains them


def decoded(body: bytes, coding: bytes, most: int) -> bytes:
    """Return a body, which may be one gzip member, as at most `most` plain bytes, or raise BadRequest."""
    if (name := coding.strip().lower()) in (b"", b"identity"):
        return body
    if name not in (b"gzip", b"x-gzip"):
        said = f"Content-Encoding is {coding.decode('latin-1')[:MOST]!r}, should be gzip or not be set"
        raise BadRequest(said, status=415)
    inflating = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        plain = inflating.decompress(body, most + 1)
    except zlib.error as error:
        raise BadRequest(f"the body is not gzip: {error}", status=400, reason="encoding") from None
    if len(plain) > most:
        raise BadRequest(f"the body, decompressed, is over {most} bytes", status=413)
    if not inflating.eof or inflating.unused_data:
        wrong = "contains more than one gzip member" if inflating.eof else "is an incomplete gzip"
        raise BadRequest(f"the body {wrong}", status=400, reason="encoding")
    return plain


class Decoder:
    """Decodes bodies of /predict for one model, with at most `max_rows` rows."""

    def __init__(self, meta: Meta, max_rows: int) -> None:
        self.inputs, self.names, self.missing = meta.inputs, meta.features, meta.missing
        self.matrix, self.key, self.max_rows = meta.matrix, columns.key(meta.inputs), max_rows
        self.by_place = columns.by_place(meta.inputs)
        self._gaps = np.array([name in meta.missing for name in meta.features])
        number: Any = float | None if meta.missing else float
        row: Any = list[number] if meta.matrix else self._row()
        self._one, self._many = self._asked(row, Id), self._asked(list[row], list[Id] | None)

    def parse(self, body: bytes) -> Rows:
        """Decode the JSON `{"features": one row or a list of rows, "id": one or a list}`.

        A row is a list of values, or an object of values by name. Raises BadRequest if the body is wrong.
        """
        return (
            self._right(body, self._one, many=False)
            or self._right(body, self._many, many=True)
            or self._explained(body)
        )

    def _row(self) -> Any:
        """Return the type of one row for a model whose features are not all numbers."""
        missing = {each.name: (each.kind | None, None) for each in self.inputs if each.name in self.missing}
        kinds: dict[str, Any] = {each.name: (each.kind,) for each in self.inputs} | missing
        if self.key != "features":
            return kinds[self.key][0]
        fields = [(f"f{place}", *kind) for place, kind in enumerate(kinds.values())]
        rename = {f"f{place}": name for place, name in enumerate(kinds)}
        return msgspec.defstruct("Row", fields, rename=rename, forbid_unknown_fields=True, kw_only=True)

    def _asked(self, row: Any, ids: Any) -> Any:
        """Return a decoder for the whole body, with these types of rows and ids."""
        fields: list[Any] = [("rows", row), ("id", ids, None)]
        asked = msgspec.defstruct("Asked", fields, rename={"rows": self.key}, forbid_unknown_fields=True)
        return msgspec.json.Decoder(asked)

    def _right(self, body: bytes, decoder: Any, *, many: bool) -> Rows | None:
        """Return the rows of a valid body, or None if the body is wrong."""
        try:
            asked = decoder.decode(body)
            rows, ids = (asked.rows, asked.id) if many else ([asked.rows], [asked.id])
            if ids is None:
                ids = [None] * len(rows)
            if not (0 < len(rows) <= self.max_rows and len(ids) == len(rows) and all(map(fits, ids))):
                return None
            if self.matrix:
                values: Values = self._numbers(rows)
            elif self.key == "features":
                values = self._columns(zip(*map(msgspec.structs.astuple, rows), strict=True))
            else:
                values = self._columns([rows])
        except (msgspec.DecodeError, RecursionError, ValueError, BadRequest):
            return None
        return Rows(values, ids, many, asked.id is not None)

    def _numbers(self, rows: list[list[float]]) -> NDArray[np.float32]:
        """Return rows as float32 (n, features). Raises ValueError or BadRequest if they are wrong."""
        row, width = rows[0], len(self.names)
        if len(rows) == 1 and not self.missing and len(row) == width and -OVER < min(row) <= max(row) < OVER:
            return np.array(rows, np.float32)
        if any(len(row) != width for row in rows):
            raise ValueError
        return self.float32(rows, [self.key] * len(rows), self.key)

    def _columns(self, by_name: Iterable[Iterable[Any]]) -> columns.Columns:
        """Return the values of each feature as an array (n,). Raises ValueError if they do not form one."""
        values = zip(self.inputs, by_name, strict=True)
        return {each.name: each.column(list(column)) for each, column in values}

    def parse_npy(self, body: bytes) -> Rows:
        """Decode a .npy array in C order, (f,) or (n, f) of float32 or float64, or raise BadRequest."""
        names = self.names
        if not self.matrix:
            said = "cannot represent this model's features, which are not all numbers; send JSON"
            raise BadRequest(f"{NPY.decode()} {said}", status=415)
        shape, dtype, start = _header(body)
        if len(shape) not in (1, 2) or shape[-1] != len(names):
            wanted = f"(rows, {len(names)}): {', '.join(names)}"
            raise BadRequest(f"the array is {_told(shape)}, should be {wanted}", "features")
        many, rows = len(shape) == 2, prod(shape[:-1])  # noqa: PLR2004
        if rows * len(names) * dtype.itemsize != len(body) - start:
            said = f"the body has {len(body) - start} bytes for an array {_told(shape)} of {dtype}"
            raise BadRequest(said, status=400)
        check_count(rows, self.max_rows, "features")
        with np.errstate(over="ignore"):
            values = np.frombuffer(body, dtype, offset=start).reshape(rows, -1).astype(np.float32)
        where = [f"features[{i}]" for i in range(rows)] if many else ["features"]
        return Rows(self._finite(values, where), [None] * rows, many=many, named=False)

    def _finite(self, values: NDArray[np.float32], where: Sequence[str]) -> NDArray[np.float32]:
        """Return the values, or raise BadRequest for infinity or NaN in a feature that may not be missing."""
        if not (good := np.isfinite(values)).all():
            good |= np.isnan(values) & self._gaps
            if (bad := np.argwhere(~good)).size:
                row, column = bad[0].tolist()
                missing = np.isnan(values[row, column])
                wrong = "NaN, but must have a value" if missing else "too large for a 32-bit float"
                raise BadRequest(f"{self.names[column]} is {wrong}", f"{where[row]}[{column}]")
        return values

    def _explained(self, body: bytes) -> Rows:
        """Decode the body value by value. Raises BadRequest with the first thing that is wrong."""
        document, key = decode(body, ANY), self.key
        if not isinstance(document, dict):
            said = f"the body is {_kind(document)}, should be an object, also for several rows"
            raise BadRequest(said, status=400)
        if unknown := sorted(document.keys() - {key, "id"}):
            raise BadRequest(f"is not known; a request has `{key}` and optionally `id`", unknown[0])
        if key not in document:
            raise BadRequest("is missing", key)
        given = document[key]
        many = isinstance(given, list) and bool(given) and self._is_row(given[0])
        rows = given if many else [given]
        if len(rows) > self.max_rows:
            raise BadRequest(f"has {len(rows)} rows, should have at most {self.max_rows}", key, status=413)
        where = [f"{key}[{i}]" for i in range(len(rows))] if many else [key]
        ordered = [self._ordered(row, at) for row, at in zip(rows, where, strict=True)]
        named = document.get("id") is not None
        ids = _ids(document["id"] if named else [None] * len(rows), len(rows), many=many or not named)
        if self.matrix:
            return Rows(self.float32(ordered, where, where[0]), ids, many, named)
        try:
            return Rows(self._columns(zip(*ordered, strict=True)), ids, many, named)
        except ValueError as error:  # each value is valid alone, but all together do not form a column
            raise BadRequest(str(error), where[0]) from None

    def _is_row(self, value: Any) -> bool:
        """Whether the first value of a list is a row, so that the list contains several rows."""
        if self.key == "features":
            return isinstance(value, dict) or (isinstance(value, list) and self.by_place)
        return isinstance(value, list) if self.inputs[0].listed else True

    def _ordered(self, row: Any, where: str) -> list[Any]:
        """Return a row's values in the order of the model's features."""
        names = self.names
        if self.key != "features":
            places, values = [where], [row]
        elif isinstance(row, dict):
            if absent := [name for name in names if name not in row and name not in self.missing]:
                raise BadRequest("is missing", f"{where}.{absent[0]}")
            if unknown := sorted(row.keys() - set(names)):
                said = f"is not a feature; the features are {', '.join(names)}"
                raise BadRequest(said, f"{where}.{unknown[0]}")
            places, values = [f"{where}.{name}" for name in names], [row.get(name) for name in names]
        elif isinstance(row, list) and self.by_place:
            if len(row) != len(names):
                said = f"has {len(row)} values, should have {len(names)}: {', '.join(names)}"
                raise BadRequest(said, where)
            places, values = [f"{where}[{i}]" for i in range(len(names))], row
        else:
            form = "a list of numbers or an object of them" if self.matrix else "an object of values by name"
            raise BadRequest(f"is {_kind(row)}, should be {form}", where)
        for value, place, name in zip(values, places, names, strict=True):
            if wrong := self._wrong(value, name, by_name=isinstance(row, dict)):
                raise BadRequest(wrong, place)
        return values

    def _wrong(self, value: Any, name: str, *, by_name: bool) -> str:
        """Return what is wrong with a feature's value, an empty string if nothing is."""
        if value is None and name in self.missing:
            return ""
        if self.matrix:
            number = type(value) in (float, int) or (by_name and type(value) is bool)
            wanted = "must have a value" if value is None else "should be a number"
            return "" if number else f"is {_kind(value)}; {name} {wanted}"
        each = self.inputs[self.names.index(name)]
        try:
            msgspec.convert(value, each.kind)
            each.column([value])
        except (msgspec.ValidationError, ValueError):
            return f"is {_kind(value)}; {name} should be {each.wanted}"
        return ""

    def float32(self, values: Any, where: Sequence[str], field: str) -> NDArray[np.float32]:
        """Return n rows' values as float32 (n, features); `where` are the rows' fields, `field` that of all.

        Raises BadRequest if a number is too large, or a value is missing that must not be.
        """
        try:
            with np.errstate(over="ignore"):
                matrix = np.asarray(values, np.float64).astype(np.float32).reshape(len(where), -1)
        except OverflowError:
            raise BadRequest("contains a number that is too large for a float", field) from None
        return self._finite(matrix, where)


def check_count(rows: int, most: int, field: str) -> None:
    """Raise BadRequest if there are no rows, or more than `most`."""
    if not 0 < rows <= most:
        raise BadRequest(f"has {rows} rows, should have 1 to {most}", field, status=413 if rows else 422)


def _header(body: bytes) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Return shape, type and start of a .npy file's data without creating the array, or raise BadRequest."""
    file = BytesIO(body)
    try:
        with warnings.catch_warnings(action="ignore"):  # NumPy warns about headers that Python 2 wrote
            if (version := np.lib.format.read_magic(file)) not in HEADERS:
                raise ValueError(f"version {version} is not known")  # noqa: TRY301 - same as NumPy's errors
            shape, fortran, dtype = HEADERS[version](file)
    except Exception as error:  # noqa: BLE001 - NumPy evaluates the header, so any error is possible
        said = f"the body is not a .npy: {type(error).__name__} {str(error)[:MOST]}"
        raise BadRequest(said, status=400) from None
    if not all(type(length) is int and 0 <= length < 2**63 for length in shape):
        said = "the body is not a .npy: a length in its shape is negative, too large or not an integer"
        raise BadRequest(said, status=400)
    if fortran or dtype.kind != "f" or dtype.itemsize not in (4, 8):
        order = "Fortran" if fortran else "C"
        said = f"the array is {str(dtype)[:MOST]} in {order} order, should be float32 or float64 in C order"
        raise BadRequest(said, "features")
    return shape, dtype, file.tell()


def _told(shape: tuple[int, ...]) -> str:
    return str(shape) if len(shape) <= DIMENSIONS else f"of {len(shape)} dimensions"


def decode(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """Return a JSON body as the decoder's type. Raises BadRequest that names the field if it is wrong."""
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        # without a type, only a number over any float is a ValidationError
        if isinstance(error, msgspec.ValidationError) and decoder is not ANY:
            said, _, where = str(error).partition(" - at `$")
            raise BadRequest(said, where.rstrip("`").lstrip(".")) from None
        raise BadRequest(f"the body is not JSON: {error}", status=400) from None


def _ids(given: Any, rows: int, *, many: bool) -> list[Id]:
    if many and not (isinstance(given, list) and len(given) == rows):
        raise BadRequest(f"should be a list of {rows}, one for each row", "id", reason="id")
    return check_ids(given, "id[{}]") if many else check_ids([given], "id")


def check_ids(ids: list[Any], place: str) -> list[Id]:
    """Return the ids, or raise BadRequest for the first that is not an id; `place` is its field."""
    for number, value in enumerate(ids):
        if not fits(value):
            error = f"should be a string of at most {LONGEST_ID} characters or a 64-bit integer"
            raise BadRequest(error, place.format(number), reason="id")
    return ids


def fits(value: Any) -> bool:
    """Whether `value` is valid as a row's id."""
    if type(value) is str:
        return len(value) <= LONGEST_ID
    return value is None or (type(value) is int and abs(value) < 2**63)


def _kind(value: Any) -> str:
    return TYPES.get(type(value), "a number")
