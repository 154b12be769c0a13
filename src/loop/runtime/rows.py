"""Converts the body of a request to rows.

msgspec decodes JSON directly into the model's types, and names the field that is wrong. A body has one of two
types: with one row, or with a list of rows.
"""

import re
import warnings
from io import BytesIO
from typing import Annotated, Any, TypeVar

import msgspec
import numpy as np
from msgspec.structs import astuple
from numpy.typing import NDArray

from loop.runtime import columns
from loop.runtime.model import Meta, Values

# media type of NumPy's file format (versions 1 to 3), which holds rows of float32 or float64
NPY = b"application/x-npy"
LONGEST = 200  # maximum characters of NumPy's message in an error
LONGEST_ID = 128  # maximum characters of a row's id
OVER = float(2**128 - 2**103)  # the smallest number that does not round to a finite float32
Number = Annotated[float, msgspec.Meta(gt=-OVER, lt=OVER)]
Id = columns.Int64 | Annotated[str, msgspec.Meta(max_length=LONGEST_ID)] | None
REASONS = {400: "json", 408: "timeout", 413: "size", 415: "encoding", 422: "features", 429: "overload"}
ANY = msgspec.json.Decoder(float_hook=str)  # of any JSON, also with numbers that are too large for a float
UNREADABLE = (msgspec.DecodeError, RecursionError, UnicodeError)  # what a decoder raises
# msgspec names such a field in its message, but the place it gives is that of the object around the field
FIELD = re.compile(r"Object (?:missing required|contains unknown) field `(.*)`")
T = TypeVar("T")


class BadRequest(Exception):
    """A mistake of the caller, answered with a 4xx; `reason` is its label in the metrics."""

    def __init__(self, error: str, field: str = "", status: int = 422, unread: bool = False) -> None:
        super().__init__(error)
        self.error, self.field, self.status, self.unread = error, field, status, unread
        self.reason = REASONS.get(status, "features")


class Rows(msgspec.Struct, frozen=True):
    """The n rows of a request, with their ids; `many` is whether the caller sent a list of rows."""

    values: Values
    ids: list[Any]  # of the type Id
    many: bool
    named: bool  # the caller gave ids, so the response contains them


class Decoder:
    """Decodes bodies of /predict for one model, with at most `max_rows` rows."""

    def __init__(self, meta: Meta, max_rows: int) -> None:
        self.inputs, self.names, self.missing = meta.inputs, meta.features, meta.missing
        self.matrix, self.key, self.max_rows = meta.matrix, columns.key(meta.inputs), max_rows
        self._by_place = columns.by_place(meta.inputs)
        self._gaps = np.array([name in meta.missing for name in meta.features])
        row = self._row()
        # `check_count` checks this, because too many rows are answered with another status
        count = msgspec.Meta(extra_json_schema={"minItems": 1, "maxItems": max_rows})
        self._one = self._body("OneRow", row, Id)
        rows: Any = Annotated[list[row], count]  # type: ignore[valid-type]
        self._many = self._body("SeveralRows", rows, list[Id] | None)
        self.types = (self._one.type, self._many.type)

    def _row(self) -> Any:
        """Return the type of a row: a list in the order of features or an object by name, or one value."""
        kinds = dict.fromkeys(self.names, Number) if self.matrix else {of.name: of.kind for of in self.inputs}
        kinds |= {name: kinds[name] | None for name in self.missing}
        if self.key != "features":
            return kinds[self.key]
        fields = [
            # numbers by name may be booleans
            (f"f{place}", kind | bool if self.matrix else kind, *([None] if name in self.missing else []))
            for place, (name, kind) in enumerate(kinds.items())
        ]
        rename = {f"f{place}": name for place, name in enumerate(kinds)}
        by_name = msgspec.defstruct("Row", fields, rename=rename, forbid_unknown_fields=True, kw_only=True)
        return by_name | tuple[*kinds.values()] if self._by_place else by_name  # type: ignore[misc]

    def _body(self, name: str, rows: Any, ids: Any) -> msgspec.json.Decoder[Any]:
        """Return a decoder for the whole body, with these types of rows and ids."""
        fields: list[Any] = [("rows", rows), ("id", ids, None)]
        body = msgspec.defstruct(name, fields, rename={"rows": self.key}, forbid_unknown_fields=True)
        return msgspec.json.Decoder(body)

    def parse(self, body: bytes) -> Rows:
        """Decode the JSON `{"features": one row or a list of rows, "id": one or a list}`.

        A row is a list of values, or an object of values by name. Raises BadRequest if the body is wrong.
        """
        for decoder, many in ((self._one, False), (self._many, True)):
            try:
                asked = decoder.decode(body)
            except UNREADABLE:
                continue
            return self._rows(asked, many=many)
        return self._explained(body)

    def _rows(self, asked: Any, *, many: bool) -> Rows:
        rows, ids = (asked.rows, asked.id) if many else ([asked.rows], [asked.id])
        check_count(len(rows), self.max_rows, self.key)
        if ids is None:
            ids = [None] * len(rows)
        if len(ids) != len(rows):
            raise BadRequest(f"has {len(ids)} values, should have {len(rows)}, one per row", "id")
        return Rows(self._values(rows), ids, many, asked.id is not None)

    def _values(self, rows: list[Any]) -> Values:
        if self.key != "features":
            return {self.key: self.inputs[0].column(rows)}
        ordered = [row if type(row) is tuple else astuple(row) for row in rows]
        if self.matrix:
            return np.array(ordered, np.float32)
        by_name = zip(self.inputs, zip(*ordered, strict=True), strict=True)
        return {of.name: of.column(values) for of, values in by_name}

    def _explained(self, body: bytes) -> Rows:
        """Decode a body that has neither type by the one that it resembles, and so raise BadRequest."""
        try:
            document = decode(body, ANY)
            rows = document.get(self.key) if isinstance(document, dict) else None
            many = isinstance(rows, list) and bool(rows) and self._is_row(rows[0])
            return self._rows(decode(body, self._many if many else self._one), many=many)
        except BadRequest as bad:
            if self.key == "features" and bad.field.startswith(self.key):
                form = "an object or a list" if self._by_place else "an object"
                bad.error += f"; a row is {form} of {', '.join(self.names)}"
            raise

    def _is_row(self, value: Any) -> bool:
        """Whether the first value of a list is a row, so that the list contains several rows."""
        if self.key == "features":
            return isinstance(value, dict) or (isinstance(value, list) and self._by_place)
        return isinstance(value, list) or not self.inputs[0].listed

    def parse_npy(self, body: bytes) -> Rows:
        """Decode a .npy array, (f,) or (n, f) of float32 or float64, or raise BadRequest."""
        if not self.matrix:
            said = "cannot represent this model's features, which are not all numbers; send JSON"
            raise BadRequest(f"{NPY.decode()} {said}", status=415)
        file = BytesIO(body)
        try:
            with warnings.catch_warnings(action="ignore"):  # NumPy warns about headers that Python 2 wrote
                array = np.lib.format.read_array(file, allow_pickle=False)
        except Exception as error:  # noqa: BLE001 - NumPy evaluates the header, so any error is possible
            said = f"the body is not a .npy: {type(error).__name__} {str(error)[:LONGEST]}"
            raise BadRequest(said, status=400) from None
        if file.tell() != len(body):
            said = f"the body has {len(body) - file.tell()} bytes after the array"
            raise BadRequest(said, status=400)
        if array.dtype.kind != "f" or array.dtype.itemsize not in (4, 8):
            said = f"the array is {str(array.dtype)[:LONGEST]}, should be float32 or float64"
            raise BadRequest(said, "features")
        if array.ndim not in (1, 2) or array.shape[-1] != len(self.names):
            wanted = f"(rows, {len(self.names)}): {', '.join(self.names)}"
            raise BadRequest(f"the array is {array.shape}, should be {wanted}", "features")
        many = array.ndim == 2  # noqa: PLR2004
        rows = array if many else array[None]
        check_count(len(rows), self.max_rows, "features")
        values = self.float32(rows, "features[{}]" if many else "features")
        return Rows(values, [None] * len(rows), many=many, named=False)

    def float32(self, values: NDArray[Any], where: str) -> NDArray[np.float32]:
        """Return rows (n, features) as float32; `where` is a row's field, with {} for its number.

        Raises BadRequest for infinity, and for NaN in a feature that must have a value.
        """
        with np.errstate(over="ignore"):
            matrix = values.astype(np.float32)
        if not (good := np.isfinite(matrix)).all():
            good |= np.isnan(matrix) & self._gaps
            if (bad := np.argwhere(~good)).size:
                row, column = bad[0].tolist()
                missing = np.isnan(matrix[row, column])
                wrong = "NaN, but must have a value" if missing else "too large for a 32-bit float"
                raise BadRequest(f"{self.names[column]} is {wrong}", f"{where.format(row)}[{column}]")
        return matrix


def check_count(rows: int, most: int, field: str) -> None:
    """Raise BadRequest if there are no rows, or more than `most`."""
    if not 0 < rows <= most:
        raise BadRequest(f"has {rows} rows, should have 1 to {most}", field, status=413 if rows else 422)


def decode(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """Return a JSON body as the decoder's type. Raises BadRequest that names the field if it is wrong."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _invalid(error, "") from None
    except UNREADABLE as error:
        raise BadRequest(f"the body is not JSON: {error}", status=400) from None


def convert(values: list[Any], kind: Any, field: str) -> list[Any]:
    """Return a field's JSON values, each as the type `kind`, or raise BadRequest that names a wrong one."""
    try:
        return msgspec.convert(values, list[kind])
    except msgspec.ValidationError as error:
        raise _invalid(error, field) from None


def _invalid(error: msgspec.ValidationError, field: str) -> BadRequest:
    said, _, where = str(error).partition(" - at `$")
    named = FIELD.fullmatch(said)
    # msgspec writes a key that its types do not name as `[...]`
    field += where.rstrip("`").partition("[...]")[0] + (f".{named[1]}" if named else "")
    return BadRequest(said, field.lstrip("."))
