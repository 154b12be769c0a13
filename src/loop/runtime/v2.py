"""The Open Inference Protocol V2: a model's metadata, and inference by JSON or with binary tensors.

Source: https://github.com/kserve/open-inference-protocol, and its extension for binary tensor data. The rows
are those of /predict, decoded into the same arrays; only their form differs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan, prod
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from loop.runtime.columns import Input
from loop.runtime.log import Scored
from loop.runtime.model import Model
from loop.runtime.predictor import Answer, Encode
from loop.runtime.rows import BadRequest, Decoder, Id, Rows, check_count, fits

HEADER = b"inference-header-content-length"
EXTENSIONS = ["binary_tensor_data"]
TYPES: dict[str, Any] = {
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "BOOL": np.dtype("?"),
}
TAKEN = {  # which types of tensors hold an input of a type
    "FP32": ("FP32", "FP64"),
    "FP64": ("FP64", "FP32"),
    "INT64": ("INT64", "INT32"),
    "BOOL": ("BOOL",),
    "BYTES": ("BYTES",),
}
ID = "id"  # of a tensor that gives each row its id


class Parameters(msgspec.Struct, frozen=True):
    """What we read of a request's or a tensor's parameters; others are allowed, and change nothing."""

    binary_data_size: int | None = None
    binary_data: bool | None = None
    binary_data_output: bool = False


class Given(msgspec.Struct, frozen=True):
    """A tensor of a request."""

    name: str
    datatype: str
    shape: list[int]
    parameters: Parameters = Parameters()
    data: Any = None


class Wanted(msgspec.Struct, frozen=True):
    """An output that a request names."""

    name: str
    parameters: Parameters = Parameters()


class Request(msgspec.Struct, frozen=True):
    """The JSON of an inference request."""

    inputs: list[Given]
    id: str | None = None
    parameters: Parameters = Parameters()
    outputs: list[Wanted] | None = None


REQUEST = msgspec.json.Decoder(Request)


def metadata(model: Model) -> dict[str, Any]:
    """GET /v2/models/<name>."""
    return {
        "name": model.release.model,
        "versions": [model.release.key],
        "platform": "loop",
        "inputs": [msgspec.to_builtins(each) for each in model.meta.inputs],
        "outputs": outputs(model),
    }


def outputs(model: Model) -> list[dict[str, Any]]:
    """The tensors of an answer."""
    classes, width = model.meta.classes, model.meta.width
    if model.meta.task == "embedding":
        return [{"name": "embedding", "datatype": "FP32", "shape": [-1, width]}]
    score = {"name": "score", "datatype": "FP64", "shape": [-1, width] if width else [-1]}
    return [score, {"name": "class", "datatype": _class_type(classes), "shape": [-1]}] if classes else [score]


def _class_type(classes: Sequence[Any]) -> Literal["BYTES", "BOOL", "INT64"]:
    if isinstance(classes[0], str):
        return "BYTES"
    return "BOOL" if isinstance(classes[0], bool) else "INT64"


def read(body: bytes, headers: dict[bytes, bytes], model: Model, decoder: Decoder) -> tuple[Rows, Encode]:
    """The rows of an inference request, and how it is answered; BadRequest where it is wrong."""
    asked, binary = _parts(body, headers.get(HEADER))
    known = {each.name: each for each in decoder.inputs}
    tensors: dict[str, Any] = {}
    start = 0
    for place, given in enumerate(asked.inputs):
        field = f"inputs[{place}]"
        if given.name in tensors or (given.name not in known and given.name != ID):
            said = "is given twice" if given.name in tensors else f"is no input; they are {', '.join(known)}"
            raise BadRequest(f"{given.name!r} {said}", f"{field}.name")
        if any(length < 0 for length in given.shape):
            raise BadRequest(f"is {given.shape}; no length is negative", f"{field}.shape")
        raw = None
        if (size := given.parameters.binary_data_size) is not None:
            if size < 0 or start + size > len(binary):
                raise BadRequest(
                    f"is {size}, and {len(binary) - start} bytes are left", f"{field}.parameters"
                )
            raw, start = binary[start : start + size], start + size
        tensors[given.name] = _tensor(given, known.get(given.name), raw, field, decoder)
    if start != len(binary):
        raise BadRequest(f"{len(binary) - start} bytes of the body belong to no tensor", "inputs")
    if absent := [name for name in known if name not in tensors and name not in decoder.missing]:
        raise BadRequest(f"has no tensor {absent[0]!r}; the inputs are {', '.join(known)}", "inputs")
    ids = tensors.pop(ID, None) if ID not in known else None
    values, rows = _rows(tensors, decoder)
    if ids is None:
        ids = [asked.id] if rows == 1 and fits(asked.id) else [None] * rows
    elif len(ids) != rows:
        raise BadRequest(f"has {len(ids)} values, and {rows} rows were sent", ID, reason="id")
    form = Form(model, asked.id, _wanted(asked, model))
    return Rows(values, ids, many=True, named=False), form.encode


def _parts(body: bytes, length: bytes | None) -> tuple[Request, bytes]:
    """The JSON, and the binary data behind it."""
    if length is not None and not (length.isdigit() and int(length) <= len(body)):
        given = length.decode("latin-1")[:40]
        said = f"Inference-Header-Content-Length is {given!r}; the body has {len(body)} bytes"
        raise BadRequest(said, status=400, reason="json")
    cut = int(length) if length is not None else len(body)
    try:
        return REQUEST.decode(body[:cut]), body[cut:]
    except msgspec.ValidationError as error:
        said, _, where = str(error).partition(" - at `$")
        raise BadRequest(said, where.rstrip("`").lstrip(".")) from None
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise BadRequest(f"the body is not JSON: {error}", status=400, reason="json") from None


def _tensor(given: Given, of: Input | None, raw: bytes | None, field: str, decoder: Decoder) -> Any:
    """A tensor as the decoder's array of that input; of the tensor `id`, a list of ids."""
    taken = TAKEN[of.datatype] if of else ("BYTES", "INT64")
    if given.datatype not in taken:
        raise BadRequest(f"is {given.datatype}; {given.name} is {' or '.join(taken)}", f"{field}.datatype")
    shape = _shape(given, of, field, decoder)
    values = _flat(given.data, f"{field}.data") if raw is None else _raw(given, of, raw, field)
    if len(values) != (count := prod(given.shape)):
        raise BadRequest(f"has {len(values)} values; its shape {given.shape} has {count}", f"{field}.data")
    if of is None:
        return _ids(values.tolist() if isinstance(values, np.ndarray) else values, field)
    if raw is None:
        _check_values(values, of, gaps=bool(decoder.missing), field=field)
    if of.datatype == "FP32":
        return _matrix(values, shape, field, decoder)
    return _array(values, of, shape, field, decoder, encoded=raw is None)


def _shape(given: Given, of: Input | None, field: str, decoder: Decoder) -> list[int]:
    """The shape, of the input's own rank; a column of (n, 1), as some clients send it, is (n,)."""
    shape, wanted = given.shape, list(of.shape) if of else [-1]
    if len(wanted) == 1 and len(shape) == 2 and shape[1] == 1:  # noqa: PLR2004
        shape = shape[:1]
    if len(shape) != len(wanted):
        raise BadRequest(f"is {given.shape}; {given.name} is {wanted}", f"{field}.shape")
    check_count(shape[0], decoder.max_rows, f"{field}.shape")
    return shape


def _raw(given: Given, of: Input | None, raw: bytes, field: str) -> Any:
    """The values of a binary tensor."""
    if given.datatype == "BYTES":
        return _texts(raw, field, text=not (of and of.encoded))
    kind, count = TYPES[given.datatype], prod(given.shape)
    if len(raw) != count * kind.itemsize:
        said = f"has {len(raw)} bytes; {given.shape} of {given.datatype} has {count * kind.itemsize}"
        raise BadRequest(said, f"{field}.parameters")
    return np.frombuffer(raw, kind)


def _check_values(values: list[Any], of: Input, *, gaps: bool, field: str) -> None:
    """BadRequest where JSON's values are not of the input's type."""
    one: Any = float if of.datatype == "FP32" else Input(of.name, of.datatype, (-1,)).kind
    try:
        msgspec.convert(values, list[one | None] if gaps else list[one])
    except msgspec.ValidationError as error:
        raise BadRequest(str(error).partition(" - at `$")[0], f"{field}.data") from None


def _matrix(values: Any, shape: list[int], field: str, decoder: Decoder) -> NDArray[np.float32]:
    """(n, f) float32."""
    if shape[1] != len(decoder.names):
        raise BadRequest(f"is {shape}; it must be [rows, {len(decoder.names)}]", f"{field}.shape")
    with np.errstate(over="ignore"):
        try:
            matrix = np.asarray(values, np.float64).astype(np.float32).reshape(shape)
        except OverflowError:
            raise BadRequest("holds a number that is too large for a float", f"{field}.data") from None
    return decoder.finite(matrix, [field] * len(matrix))


def _array(
    values: Any, of: Input, shape: list[int], field: str, decoder: Decoder, *, encoded: bool
) -> NDArray[Any]:
    """(n,) as `Input.column` makes it; bytes are base64 where they are `encoded`."""
    rows = values.tolist() if isinstance(values, np.ndarray) else values
    if of.name not in decoder.missing and any(
        value is None or (isinstance(value, float) and isnan(value)) for value in rows
    ):
        raise BadRequest(f"{of.name} must have a value", f"{field}.data")
    if of.datatype == "FP64" and not of.listed and np.isinf(np.asarray(rows, np.float64)).any():
        raise BadRequest(f"{of.name} is not finite", f"{field}.data")
    if of.listed:
        rows = [rows[row * shape[1] : (row + 1) * shape[1]] for row in range(shape[0])]
    if of.encoded and not encoded:
        return np.fromiter(rows, dtype=object, count=len(rows))
    try:
        return of.column(rows)
    except (ValueError, OverflowError) as error:
        raise BadRequest(str(error), f"{field}.data") from None


def _flat(data: Any, field: str) -> list[Any]:
    """The values of a tensor in JSON, which may be nested by its shape."""
    if not isinstance(data, list):
        raise BadRequest("must be a list of the tensor's values", field)
    while data and isinstance(data[0], list):
        if not all(isinstance(part, list) for part in data):
            raise BadRequest("holds lists beside values", field)
        data = [value for part in data for value in part]
    return list(data)


def _texts(raw: bytes, field: str, *, text: bool) -> list[Any]:
    """The elements of a binary BYTES tensor: each is 4 bytes of its length, little-endian, and its bytes."""
    found: list[Any] = []
    start = 0
    while start < len(raw):
        end = start + 4 + int.from_bytes(raw[start : start + 4], "little")
        if start + 4 > len(raw) or end > len(raw):
            raise BadRequest(f"ends within element {len(found)}", f"{field}.parameters")
        element = raw[start + 4 : end]
        try:
            found.append(element.decode() if text else element)
        except UnicodeDecodeError:
            raise BadRequest(f"element {len(found)} is no UTF-8", f"{field}.data") from None
        start = end
    return found


def _ids(values: list[Any], field: str) -> list[Id]:
    for place, value in enumerate(values):
        if not fits(value):
            raise BadRequest(
                "is no id: a string of at most 128 characters, or an integer",
                f"{field}.data[{place}]",
                reason="id",
            )
    return values


def _rows(tensors: dict[str, Any], decoder: Decoder) -> tuple[Any, int]:
    """The tensors as rows, and how many; an absent column that may be missing is all gaps."""
    if decoder.matrix:
        matrix: NDArray[np.float32] = tensors[decoder.inputs[0].name]
        return matrix, len(matrix)
    counts = {name: len(column) for name, column in tensors.items()}
    if len(set(counts.values())) != 1:
        raise BadRequest(f"have different numbers of rows: {counts}", "inputs")
    rows = next(iter(counts.values()))
    filled = {
        each.name: tensors[each.name] if each.name in tensors else each.column([None] * rows)
        for each in decoder.inputs
    }
    return filled, rows


def _wanted(asked: Request, model: Model) -> dict[str, bool]:
    """The outputs to answer, and whether each is binary."""
    names = [each["name"] for each in outputs(model)]
    if not asked.outputs:
        return dict.fromkeys(names, asked.parameters.binary_data_output)
    if strange := [each.name for each in asked.outputs if each.name not in names]:
        raise BadRequest(f"{strange[0]!r} is no output; they are {', '.join(names)}", "outputs")
    default = asked.parameters.binary_data_output
    return {
        each.name: default if each.parameters.binary_data is None else each.parameters.binary_data
        for each in asked.outputs
    }


@dataclass(frozen=True)
class Form:
    """How one request is answered."""

    model: Model
    id: str | None
    wanted: dict[str, bool]

    def encode(self, _: Rows, of: Scored) -> Answer:
        """The answer's JSON, and the tensors behind it that were asked for in binary."""
        tensors, parts = [], []
        for each in outputs(self.model):
            if each["name"] not in self.wanted:
                continue
            values: list[Any] = of.classes if each["name"] == "class" else of.answer
            flat = [value for row in values for value in row] if each["shape"][1:] else values
            tensor = {**each, "shape": [len(values), *each["shape"][1:]]}
            if self.wanted[each["name"]]:
                parts.append(_binary(flat, each["datatype"]))
                tensor["parameters"] = {"binary_data_size": len(parts[-1])}
            else:
                tensor["data"] = flat
            tensors.append(tensor)
        release = self.model.release
        said = {"model_name": release.model, "model_version": release.key, "outputs": tensors}
        head = msgspec.json.encode({**said, "id": self.id} if self.id is not None else said)
        return Answer(200, head + b"".join(parts), json=len(head) if parts else None)


def _binary(values: list[Any], datatype: str) -> bytes:
    if datatype == "BYTES":
        return b"".join(len(raw := value.encode()).to_bytes(4, "little") + raw for value in values)
    return bytes(np.asarray(values, TYPES[datatype]).tobytes())
