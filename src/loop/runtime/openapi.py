"""Creates the OpenAPI document for the model that is served: the requests and responses of its paths."""

from typing import Any

from loop.runtime import columns, openai
from loop.runtime.columns import Input
from loop.runtime.model import Meta, Model
from loop.runtime.rows import LONGEST_ID, NPY, OVER

REFUSED = {
    "400": "The body is neither JSON nor a valid array.",
    "408": "The body was not received in time.",
    "413": "Too many rows, or too many bytes.",
    "415": "The body's Content-Encoding is not gzip.",
    "422": "A field is wrong; the response names it and says why.",
    "429": "Too many requests are waiting; retry after Retry-After seconds.",
    "500": "The model failed.",
}


def document(model: Model, max_rows: int, max_bytes: int) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document, with the model's features by name and its example."""
    health = _answered("The server is running.", _json(_ref("Health")))
    text = {"text/plain": {"schema": {"type": "string"}}}
    ready = {"200": _answered("Ready.", text), "503": _answered("The server is shutting down.", text)}
    return {
        "openapi": "3.1.0",
        "info": {"title": model.release.model, "version": model.release.key},
        "paths": {
            "/predict": {"post": _predict(model, max_bytes)},
            "/health": _get(
                "Whether the server is running, and which model version it serves.", {"200": health}
            ),
            "/v2/models/" + model.release.model: _get(
                "The model's inputs and outputs, as the Open Inference Protocol V2 describes them.",
                {"200": _answered("The model's metadata.", _json({"type": "object"}))},
            ),
            f"/v2/models/{model.release.model}/infer": {"post": _infer()},
            **({"/v1/embeddings": {"post": _embeddings()}} if openai.speaks(model) else {}),
            "/readyz": _get("Whether the server accepts requests; inside the cluster only.", ready),
            "/livez": _get(
                "Whether the process is alive; inside the cluster only.",
                {"200": _answered("The process is alive.", text)},
            ),
            "/metrics": _get(
                "Metrics in Prometheus' text format; inside the cluster only.",
                {"200": _answered("The metrics.", text)},
            ),
        },
        "components": {"schemas": _schemas(model, max_rows)},
    }


def _infer() -> dict[str, Any]:
    """Return the V2 inference path.

    Its schemas are simple, because V2 clients do not use schemas of this document.
    """
    body = _json(_ref("Inference"))
    answer = {**_json(_ref("Inferred")), "application/octet-stream": {"schema": {"type": "string"}}}
    return {
        "summary": "Score rows by the Open Inference Protocol V2.",
        "description": "JSON, optionally followed by binary tensors. A tensor `id` of BYTES or INT64 may give"
        " each row an id, by which its label can be matched later.",
        "requestBody": {"required": True, "content": body},
        "responses": {
            "200": _answered("The outputs.", answer),
            **{status: _answered(what, _json(_ref("Error"))) for status, what in REFUSED.items()},
        },
    }


def _embeddings() -> dict[str, Any]:
    """Return the path of OpenAI's embeddings API."""
    return {
        "summary": "Embed texts with OpenAI's embeddings API.",
        "requestBody": {"required": True, "content": _json(_ref("Texts"))},
        "responses": {
            "200": _answered("The vectors, in the order of the texts.", _json(_ref("Vectors"))),
            "404": _answered("The model has another name.", _json(_ref("Error"))),
            **{status: _answered(what, _json(_ref("Error"))) for status, what in REFUSED.items()},
        },
    }


def _predict(model: Model, max_bytes: int) -> dict[str, Any]:
    echoed = {"X-Request-ID": {"schema": {"type": "string"}, "description": "The caller's, or a new one."}}
    error = _json(_ref("Error"))
    refused = {status: {**_answered(what, error), "headers": echoed} for status, what in REFUSED.items()}
    later = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}}
    refused["429"]["headers"] = {**echoed, **later}
    content = _json(_ref("Request"), _example(model))
    text = (
        f"At most {max_bytes} bytes, as sent and, if its Content-Encoding is gzip, decompressed."
        " Several rows have either no ids or one id per row."
    )
    if model.meta.matrix:
        content[NPY.decode()] = {
            "schema": {"type": "string", "format": "binary", "contentMediaType": NPY.decode()}
        }
        text += (
            f" {NPY.decode()} is what numpy.save writes: one row (f,) or many (n, f) of float32 or float64;"
            " its response is JSON too."
        )
    return {
        "summary": "Score one row or several rows.",
        "description": text,
        "parameters": [
            {"name": "X-Request-ID", "in": "header", "required": False, "schema": {"type": "string"}}
        ],
        "requestBody": {"required": True, "content": content},
        "responses": {
            "200": {
                **_answered("The score of one row, or a list of scores.", _json(_ref("Answer"))),
                "headers": echoed,
            },
            **refused,
        },
    }


def _get(summary: str, responses: dict[str, Any]) -> dict[str, Any]:
    return {"get": {"summary": summary, "responses": responses}}


def _answered(description: str, content: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": content}


def _schemas(model: Model, max_rows: int) -> dict[str, Any]:
    meta, text = model.meta, {"type": "string"}
    one_id = {"type": ["string", "integer", "null"], "minimum": 1 - 2**63, "maximum": 2**63 - 1}
    one_id |= {"maxLength": LONGEST_ID}
    ids = {"type": ["array", "null"], "items": one_id}
    share = {"type": "number"}
    score = _list(share, meta.width) if meta.width else share
    told = "embedding" if meta.task == "embedding" else "score"
    label: dict[str, Any] = {"class": {"enum": list(meta.classes)}} if meta.classes else {}
    label |= {name: {} for name in model.named}  # {} allows any JSON value
    row, key = _row(meta), columns.key(meta.inputs)
    rows = {"type": "array", "items": row, "minItems": 1, "maxItems": max_rows}
    version = {"model_version": text}
    one = {"id": one_id, told: score, **label}
    many = {name: {"type": "array", "items": schema} for name, schema in one.items()}
    answer = ("model_version", told, *label)
    return {
        "Row": row,
        "Request": {
            "oneOf": [
                _object({key: _ref("Row"), "id": one_id}, (key,)),
                _object({key: rows, "id": ids}, (key,)),
            ]
        },
        "Answer": {"oneOf": [_object({**version, **one}, answer), _object({**version, **many}, answer)]},
        "Inference": {
            "type": "object",
            "properties": {"id": text, "inputs": {"type": "array", "items": _tensor(("shape", "data"))}},
            "required": ["inputs"],
        },
        "Inferred": {
            "type": "object",
            "properties": {"outputs": {"type": "array", "items": _tensor(("shape",))}, "model_version": text},
            "required": ["model_name", "model_version", "outputs"],
        },
        **(_of_openai(model, max_rows) if openai.speaks(model) else {}),
        "Health": _object(
            {
                "status": text,
                **version,
                "engine": {**text, "description": "The engine's version that packed it."},
            },
            ("status", "model_version", "engine"),
        ),
        "Error": _object({"error": text, "field": text}, ("error", "field")),
    }


def _of_openai(model: Model, max_rows: int) -> dict[str, Any]:
    """Return the schemas of OpenAI's requests and responses for embeddings."""
    text, number = {"type": "string"}, {"type": "integer"}
    texts = {"type": "array", "items": text, "minItems": 1, "maxItems": max_rows}
    vector = {
        "anyOf": [_list({"type": "number"}, len(model.meta.centre)), {**text, "contentEncoding": "base64"}]
    }
    one = _object({"object": text, "index": number, "embedding": vector}, ("object", "index", "embedding"))
    usage = _object({"prompt_tokens": number, "total_tokens": number}, ("prompt_tokens", "total_tokens"))
    parts = {"object": text, "data": {"type": "array", "items": one}, "model": text, "usage": usage}
    asked = {
        "input": {"anyOf": [text, texts]},
        "model": {"const": model.release.model},
        "encoding_format": {"enum": ["float", "base64"]},
        "dimensions": {"anyOf": [{"const": len(model.meta.centre)}, {"type": "null"}]},
    }
    return {
        "Texts": {"type": "object", "properties": asked, "required": ["input", "model"]},
        "Vectors": _object(parts, tuple(parts)),
    }


def _tensor(required: tuple[str, ...]) -> dict[str, Any]:
    """Return the schema of a V2 tensor, whose data may be nested by its shape."""
    shape = {"type": "array", "items": {"type": "integer"}}
    text = {"type": "string"}
    properties = {"name": text, "datatype": text, "shape": shape, "data": {"type": "array"}}
    return {"type": "object", "properties": properties, "required": ["name", "datatype", *required]}


def _row(meta: Meta) -> dict[str, Any]:
    """Return the schema of a row.

    It is a list in the order of features, an object by name, or a single text, image or list.
    """
    if meta.matrix:
        number = {"type": "number", "exclusiveMinimum": -OVER, "exclusiveMaximum": OVER}
        values = {name: _gap(number) if name in meta.missing else number for name in meta.features}
        flags = {name: {"anyOf": [value, {"type": "boolean"}]} for name, value in values.items()}
        positions = [*values.values()]
    else:
        flags = {each.name: _value(each, missing=each.name in meta.missing) for each in meta.inputs}
        positions = [*flags.values()]
    if columns.key(meta.inputs) != "features":
        return positions[0]
    by_name = _object(flags, tuple(name for name in meta.features if name not in meta.missing))
    if not columns.by_place(meta.inputs):
        return by_name
    alike = all(each == positions[0] for each in positions)
    by_place: dict[str, Any] = (
        {"items": positions[0]} if alike else {"prefixItems": positions, "items": False}
    )
    length = {"minItems": len(positions), "maxItems": len(positions)}
    return {"anyOf": [{"type": "array", **by_place, **length}, by_name]}


def _value(of: Input, *, missing: bool) -> dict[str, Any]:
    """Return the schema of an input's value in JSON."""
    kinds = {"FP64": "number", "INT64": "integer", "BOOL": "boolean", "BYTES": "string"}
    one: dict[str, Any] = {"type": kinds[of.datatype]}
    if of.encoded:
        one["contentEncoding"] = "base64"
    value = {"type": "array", "items": one} if of.listed else one
    return _gap(value) if missing else value


def _gap(value: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [value, {"type": "null"}]}


def _example(model: Model) -> dict[str, Any]:
    key, example = columns.key(model.meta.inputs), model.meta.example
    return {key: example[key] if isinstance(example, dict) and key != "features" else example, "id": 1}


def _object(properties: dict[str, Any], required: tuple[str, ...]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def _list(items: dict[str, Any], length: int) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": length, "maxItems": length}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _json(schema: dict[str, Any], example: Any = None) -> dict[str, Any]:
    return {"application/json": {"schema": schema, **({"example": example} if example else {})}}
