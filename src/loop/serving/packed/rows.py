"""From a request's body to rows of floats; what is wrong with it is said by field and position."""

from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

Id = int | str | None
TYPES = {bool: "a boolean", str: "a string", list: "a list", dict: "an object", type(None): "null"}


class BadRequest(Exception):
    """The caller's mistake: a 4xx with the field at fault. `reason` is a metric's label."""

    def __init__(self, error: str, field: str = "", *, status: int = 422, reason: str = "features") -> None:
        super().__init__(error)
        self.error, self.field, self.status, self.reason = error, field, status, reason


@dataclass(frozen=True)
class Rows:
    """What was asked for: (n, f) rows, an id for each, and whether the caller sent a list of rows."""

    values: NDArray[np.float32]
    ids: list[Id]
    many: bool
    named: bool  # ids were given, so they are echoed


def parse(body: bytes, names: tuple[str, ...], max_rows: int) -> Rows:
    """Parse `{"features": one row or a list of rows, "id": one or a list}`; a row is a list, or an object."""
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
    if not (finite := np.isfinite(values)).all():
        row, column = (int(i) for i in np.argwhere(~finite)[0])
        raise BadRequest(f"{names[column]} is too large for a 32-bit float", f"{where[row]}[{column}]")
    return values


def _ids(given: Any, rows: int, *, many: bool) -> list[Id]:
    if many and not (isinstance(given, list) and len(given) == rows):
        raise BadRequest(f"must be a list of {rows}, one for each row", "id", reason="id")
    ids = given if many else [given]
    for position, value in enumerate(ids):
        fits = isinstance(value, str | None) or (type(value) is int and abs(value) < 2**63)
        if not fits:
            place = f"id[{position}]" if many else "id"
            raise BadRequest("must be a string or an integer of 64 bits", place, reason="id")
    return list(ids)


def _kind(value: Any) -> str:
    return TYPES.get(type(value), "a number")
