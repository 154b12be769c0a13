"""The Open Inference Protocol V2: metadata of a model, and inference with JSON or binary tensors.

See https://github.com/kserve/open-inference-protocol and its extension for binary tensor data. Requests are
decoded into the same arrays as requests to /predict.
"""

from functools import partial
from itertools import chain
from math import isnan, prod
from typing import Any

import msgspec
import numpy as np

from loop.runtime.columns import Input
from loop.runtime.model import Model
from loop.runtime.predictor import Answer, Encode, Scored, encode
from loop.runtime.rows import LONGEST_ID, BadRequest, Decoder, Id, Number, Rows, check_count, convert, decode

HEADER = b"inference-header-content-length"
EXTENSIONS = ["binary_tensor_data"]
TYPES = {"FP32": "<f4", "FP64": "<f8", "INT32": "<i4", "INT64": "<i8", "BOOL": "?"}  # as in NumPy
ALSO = {"FP32": ["FP64"], "FP64": ["FP32"], "INT64": ["INT32"]}  # other datatypes that an input accepts
ID = "id"  # name of the optional tensor with an id for each row


class Parameters(msgspec.Struct, frozen=True):
    """The parameters of a request or tensor that the server uses; others are ignored."""

    binary_data_size: int | None = None
    binary_data: bool | None = None
    binary_data_output: bool = False


class Tensor(msgspec.Struct, frozen=True):
    """A tensor in a request."""

    name: str
    datatype: str
    shape: list[int]
    parameters: Parameters | None = None
    data: list[Any] | None = None


class Output(msgspec.Struct, frozen=True):
    """An output that a request asks for."""

    name: str
    parameters: Parameters | None = None


class Inference(msgspec.Struct, frozen=True):
    """The JSON part of an inference request."""

    inputs: list[Tensor]
    id: str | None = None
    parameters: Parameters | None = None
    outputs: list[Output] | None = None


REQUEST = msgspec.json.Decoder(Inference)
NONE = Parameters()  # of a client that gives none, or null


def metadata(model: Model) -> dict[str, Any]:
    """Return the response to GET /v2/models/<name>: the model's name, version, inputs and outputs."""
    return {
        "name": model.release.model,
        "versions": [model.release.key],
        "platform": "loop",
        "inputs": [msgspec.to_builtins(each) for each in model.meta.inputs],
        "outputs": outputs(model),
    }


def outputs(model: Model) -> list[dict[str, Any]]:
    """Return name, datatype and shape of each tensor in a response."""
    classes, width = model.meta.classes, model.meta.width
    if model.meta.task == "embedding":
        return [{"name": "embedding", "datatype": "FP32", "shape": [-1, width]}]
    score = {"name": "score", "datatype": "FP64", "shape": [-1, width] if width else [-1]}
    if not classes:
        return [score]
    datatype = {str: "BYTES", bool: "BOOL", int: "INT64"}[type(classes[0])]
    return [score, {"name": "class", "datatype": datatype, "shape": [-1]}]


def read(body: bytes, headers: dict[bytes, bytes], model: Model, decoder: Decoder) -> tuple[Rows, Encode]:
    """Return a request's rows, and a function that encodes the response, or raise BadRequest."""
    asked, start = _head(body, headers.get(HEADER, b"%d" % len(body)))
    known = {each.name: each for each in decoder.inputs}
    inputs = f"the inputs are {', '.join(known)}"
    tensors: dict[str, Any] = {}
    for place, given in enumerate(asked.inputs):
        field = f"inputs[{place}]"
        if given.name in tensors or (given.name not in known and given.name != ID):
            said = "is given twice" if given.name in tensors else f"is not an input; {inputs}"
            raise BadRequest(f"{given.name!r} {said}", f"{field}.name")
        size = (given.parameters or NONE).binary_data_size
        if size is not None and not 0 <= size <= (left := len(body) - start):
            raise BadRequest(f"is {size}, but {left} bytes are left", f"{field}.parameters")
        raw, start = (None, start) if size is None else (body[start : start + size], start + size)
        tensors[given.name] = _tensor(given, known.get(given.name), raw, field, decoder)
    if start != len(body):
        raise BadRequest(f"{len(body) - start} bytes of the body belong to no tensor", "inputs")
    if absent := [name for name in known if name not in tensors and name not in decoder.missing]:
        raise BadRequest(f"has no tensor {absent[0]!r}; {inputs}", "inputs")
    counts = {name: len(tensor) for name, tensor in tensors.items()}
    if len({*counts.values()}) != 1:
        raise BadRequest(f"have different numbers of rows: {counts}", "inputs")
    rows = counts.popitem()[1]
    ids = tensors.pop(ID, None) if ID not in known else None
    if ids is None:
        ids = [asked.id] if rows == 1 and len(asked.id or "") <= LONGEST_ID else [None] * rows
    for name in known.keys() - tensors.keys():  # the features that may be missing
        tensors[name] = known[name].column([None] * rows)
    values = tensors["features"] if decoder.matrix else {name: tensors[name] for name in known}
    encode = partial(_encoded, model, asked.id, _wanted(asked, model))
    return Rows(values, ids, many=True, named=False), encode


def _head(body: bytes, length: bytes) -> tuple[Inference, int]:
    """Return the JSON at the start of a body, and the position where the binary data begins."""
    if not (length.isdigit() and int(length) <= len(body)):
        said = f"is {length.decode('latin-1')[:40]!r}, but the body has {len(body)} bytes"
        raise BadRequest(f"Inference-Header-Content-Length {said}", status=400)
    return decode(body[: int(length)], REQUEST), int(length)


def _tensor(given: Tensor, of: Input | None, raw: bytes | None, field: str, decoder: Decoder) -> Any:
    """Return a tensor as the decoder's array for its input, or the list of ids, or raise BadRequest."""
    accepted = ["BYTES", "INT64"] if of is None else [of.datatype, *ALSO.get(of.datatype, [])]
    if given.datatype not in accepted:
        raise BadRequest(f"is {given.datatype}, should be {' or '.join(accepted)}", f"{field}.datatype")
    shape = _shape(given, of, field, decoder)
    values: Any = _flat(given.data or []) if raw is None else _raw(given, of, raw, field)
    if len(values) != prod(shape):
        raise BadRequest(f"has {len(values)} values, but its shape is {given.shape}", f"{field}.data")
    field += ".data"
    if of is None:
        return convert(values, Id, field)
    if of.datatype == "FP32":
        if raw is None:
            kind = Number | None if decoder.missing else Number
            values = np.array(convert(values, kind, field), np.float32)
        return decoder.float32(values.reshape(shape), f"{field}[{{}}]")
    kind = of.element | None if of.name in decoder.missing and not of.listed else of.element
    values = convert(values, kind, field)
    if of.listed:
        values = [values[row * shape[1] : (row + 1) * shape[1]] for row in range(shape[0])]
    column = of.column(values)
    if of.datatype == "FP64" and not of.listed and np.isinf(column).any():
        raise BadRequest(f"{of.name} is not finite", field)
    return column


def _shape(given: Tensor, of: Input | None, field: str, decoder: Decoder) -> list[int]:
    """Return the tensor's shape with the rank of its input."""
    shape, wanted = given.shape, (-1,) if of is None else of.shape
    if len(wanted) == 1 and shape[1:] == [1]:  # a column (n, 1), as some clients send it, counts as (n,)
        shape = shape[:1]
    if len(shape) != len(wanted) or any(
        length < 0 or right not in (length, -1) for length, right in zip(shape, wanted, strict=True)
    ):
        raise BadRequest(f"is {given.shape}, should be {list(wanted)}", f"{field}.shape")
    check_count(shape[0], decoder.max_rows, f"{field}.shape")
    return shape


def _flat(data: list[Any]) -> list[Any]:
    """Return the values of a JSON tensor, which may be nested by its shape."""
    nested = data and isinstance(data[0], list)
    return np.array(data, object).ravel().tolist() if nested else data


def _raw(given: Tensor, of: Input | None, raw: bytes, field: str) -> Any:
    """Return the values of a binary tensor: an array of FP32, or a list with None for NaN.

    Raises BadRequest if their length does not match the shape.
    """
    if given.datatype == "BYTES":
        return _texts(raw, field, text=not (of and of.encoded))
    kind = np.dtype(TYPES[given.datatype])
    if len(raw) != (size := prod(given.shape) * kind.itemsize):
        said = f"has {len(raw)} bytes, should have {size} for {given.shape} {given.datatype}"
        raise BadRequest(said, f"{field}.parameters")
    values = np.frombuffer(raw, kind)
    if of and of.datatype == "FP32":
        return values
    return [None if isnan(value) else value for value in values.tolist()]


def _texts(raw: bytes, field: str, *, text: bool) -> list[Any]:
    """Return the elements of a binary BYTES tensor, each a 4-byte little-endian length and its bytes."""
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
            raise BadRequest(f"element {len(found)} is not UTF-8", f"{field}.data") from None
        start = end
    return found


def _wanted(asked: Inference, model: Model) -> dict[str, bool]:
    """Return {name: whether it should be binary} of the requested outputs."""
    names, default = [each["name"] for each in outputs(model)], (asked.parameters or NONE).binary_data_output
    given = {each.name: (each.parameters or NONE).binary_data for each in asked.outputs or map(Output, names)}
    if strange := [name for name in given if name not in names]:
        raise BadRequest(f"{strange[0]!r} is not an output; the outputs are {', '.join(names)}", "outputs")
    return {name: default if binary is None else binary for name, binary in given.items()}


def _encoded(model: Model, request_id: str | None, wanted: dict[str, bool], _: Rows, of: Scored) -> Answer:
    """Return the response: JSON, followed by the tensors that are wanted in binary."""
    tensors, parts = [], []
    for each in outputs(model):
        if (binary := wanted.get(each["name"])) is None:
            continue
        values: Any = of.classes if each["name"] == "class" else of.answer
        flat = values
        if each["shape"][1:]:
            flat = values.ravel() if isinstance(values, np.ndarray) else [*chain.from_iterable(values)]
        tensor = {**each, "shape": [len(values), *each["shape"][1:]]}
        if binary:
            parts.append(_binary(flat, each["datatype"]))
            tensor["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            tensor["data"] = flat
        tensors.append(tensor)
    said = {"model_name": model.release.model, "model_version": model.release.key, "outputs": tensors}
    head = encode(said if request_id is None else {**said, "id": request_id})
    return Answer(200, head + b"".join(parts), json=len(head) if parts else None)


def _binary(values: Any, datatype: str) -> bytes:
    if datatype == "BYTES":
        return b"".join(len(raw := value.encode()).to_bytes(4, "little") + raw for value in values)
    return bytes(np.asarray(values, TYPES[datatype]).tobytes())
