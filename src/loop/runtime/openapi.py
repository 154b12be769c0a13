"""Creates the OpenAPI document for the model that is served: the requests and responses of its paths."""

from collections.abc import Iterable
from typing import Any

from loop.runtime import columns, openai
from loop.runtime.columns import Input
from loop.runtime.model import Meta, Model
from loop.runtime.rows import LONGEST_ID, NPY, OVER

TEXT, INTEGER, NUMBER = {"type": "string"}, {"type": "integer"}, {"type": "number"}
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
    name = model.release.model
    described = _answered("The model's metadata.", _json({"type": "object"}))
    ready = {"200": _text("Ready."), "503": _text("The server is shutting down.")}
    alive, metrics = {"200": _text("The process is alive.")}, {"200": _text("The metrics.")}
    about = "The model's inputs and outputs, as the Open Inference Protocol V2 describes them."
    running = "Whether the server is running, and which model version it serves."
    return {
        "openapi": "3.1.0",
        "info": {"title": name, "version": model.release.key},
        "paths": {
            "/predict": _predict(model, max_bytes),
            "/health": _get(running, {"200": _answered("The server is running.", _json(_ref("Health")))}),
            f"/v2/models/{name}": _get(about, {"200": described}),
            f"/v2/models/{name}/infer": _infer(),
            **({"/v1/embeddings": _embeddings()} if openai.speaks(model) else {}),
            "/readyz": _get("Whether the server accepts requests; inside the cluster only.", ready),
            "/livez": _get("Whether the process is alive; inside the cluster only.", alive),
            "/metrics": _get("Metrics in Prometheus' text format; inside the cluster only.", metrics),
        },
        "components": {"schemas": _schemas(model, max_rows)},
    }


def _infer() -> dict[str, Any]:
    """Return the V2 inference path, with simple schemas, because V2 clients do not use them."""
    answer = {**_json(_ref("Inferred")), "application/octet-stream": {"schema": TEXT}}
    text = (
        "JSON, optionally followed by binary tensors. A tensor `id` of BYTES or INT64 may give"
        " each row an id, by which its label can be matched later."
    )
    answers = {"200": _answered("The outputs.", answer)}
    summary = "Score rows by the Open Inference Protocol V2."
    return _post(summary, _json(_ref("Inference")), answers, description=text)


def _embeddings() -> dict[str, Any]:
    answers = {
        "200": _answered("The vectors, in the order of the texts.", _json(_ref("Vectors"))),
        "404": _answered("The model has another name.", _json(_ref("Error"))),
    }
    return _post("Embed texts with OpenAI's embeddings API.", _json(_ref("Texts")), answers)


def _predict(model: Model, max_bytes: int) -> dict[str, Any]:
    key, example = columns.key(model.meta.inputs), model.meta.example
    row = example[key] if isinstance(example, dict) and key != "features" else example
    content = _json(_ref("Request"), {key: row, "id": 1})
    text = (
        f"At most {max_bytes} bytes, as sent and, if its Content-Encoding is gzip, decompressed."
        " Several rows have either no ids or one id per row."
    )
    if model.meta.matrix:
        npy = NPY.decode()
        content[npy] = {"schema": {"type": "string", "format": "binary", "contentMediaType": npy}}
        text += (
            f" {npy} is what numpy.save writes: one row (f,) or many (n, f) of float32 or float64;"
            " its response is JSON too."
        )
    given = {"name": "X-Request-ID", "in": "header", "required": False, "schema": TEXT}
    answers = {"200": _answered("The score of one row, or a list of scores.", _json(_ref("Answer")))}
    path = _post("Score one row or several rows.", content, answers, description=text, parameters=[given])
    for response in path["post"]["responses"].values():
        response["headers"] = {"X-Request-ID": {"schema": TEXT, "description": "The caller's, or a new one."}}
    retry = {"schema": {"type": "integer"}, "description": "Seconds."}
    path["post"]["responses"]["429"]["headers"]["Retry-After"] = retry
    return path


def _post(summary: str, content: dict[str, Any], answers: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return a path that takes a body, and can refuse it beside giving the `answers`."""
    refused = {status: _answered(why, _json(_ref("Error"))) for status, why in REFUSED.items()}
    body = {"required": True, "content": content}
    return {"post": {"summary": summary, **more, "requestBody": body, "responses": answers | refused}}


def _get(summary: str, responses: dict[str, Any]) -> dict[str, Any]:
    return {"get": {"summary": summary, "responses": responses}}


def _answered(description: str, content: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": content}


def _text(description: str) -> dict[str, Any]:
    return _answered(description, {"text/plain": {"schema": TEXT}})


def _schemas(model: Model, max_rows: int) -> dict[str, Any]:
    meta, row, key = model.meta, _row(model.meta), columns.key(model.meta.inputs)
    limits = {"minimum": 1 - 2**63, "maximum": 2**63 - 1, "maxLength": LONGEST_ID}
    one_id = {"type": ["string", "integer", "null"], **limits}
    one = {key: _ref("Row"), "id": one_id}
    many = {key: _array(row, max_rows), "id": {"type": ["array", "null"], "items": one_id}}
    told = "embedding" if meta.task == "embedding" else "score"
    label: dict[str, Any] = {"class": {"enum": list(meta.classes)}} if meta.classes else {}
    label |= {name: {} for name in model.named}  # {} allows any JSON value
    score = {"id": one_id, told: _list(NUMBER, meta.width) if meta.width else NUMBER, **label}
    scores = {name: _array(schema) for name, schema in score.items()}
    answer, version = ("model_version", told, *label), {"model_version": TEXT}
    engine = {**TEXT, "description": "The engine's version that packed it."}
    return {
        "Row": row,
        "Request": {"oneOf": [_object(one, (key,)), _object(many, (key,))]},
        "Answer": {"oneOf": [_object({**version, **score}, answer), _object({**version, **scores}, answer)]},
        "Inference": {
            "type": "object",
            "properties": {"id": TEXT, "inputs": _array(_tensor(("shape", "data")))},
            "required": ["inputs"],
        },
        "Inferred": {
            "type": "object",
            "properties": {"outputs": _array(_tensor(("shape",))), **version},
            "required": ["model_name", "model_version", "outputs"],
        },
        **(_of_openai(model, max_rows) if openai.speaks(model) else {}),
        "Health": _object({"status": TEXT, **version, "engine": engine}),
        "Error": _object({"error": TEXT, "field": TEXT}),
    }


def _of_openai(model: Model, max_rows: int) -> dict[str, Any]:
    """Return the schemas of OpenAI's requests and responses for embeddings."""
    width = len(model.meta.centre)
    vector = {"anyOf": [_list(NUMBER, width), {**TEXT, "contentEncoding": "base64"}]}
    one = _object({"object": TEXT, "index": INTEGER, "embedding": vector})
    usage = _object({"prompt_tokens": INTEGER, "total_tokens": INTEGER})
    asked = {
        "input": {"anyOf": [TEXT, _array(TEXT, max_rows)]},
        "model": {"const": model.release.model},
        "encoding_format": {"enum": ["float", "base64"]},
        "dimensions": _gap({"const": width}),
    }
    return {
        "Texts": {"type": "object", "properties": asked, "required": ["input", "model"]},
        "Vectors": _object({"object": TEXT, "data": _array(one), "model": TEXT, "usage": usage}),
    }


def _tensor(required: tuple[str, ...]) -> dict[str, Any]:
    """Return the schema of a V2 tensor, whose data may be nested by its shape."""
    properties = {"name": TEXT, "datatype": TEXT, "shape": _array(INTEGER), "data": {"type": "array"}}
    return {"type": "object", "properties": properties, "required": ["name", "datatype", *required]}


def _row(meta: Meta) -> dict[str, Any]:
    """Return the schema of a row: a list in the order of features, an object, or a text, image or list."""
    if meta.matrix:
        number = {"type": "number", "exclusiveMinimum": -OVER, "exclusiveMaximum": OVER}
        values: dict[str, Any] = {
            name: _gap(number) if name in meta.missing else number for name in meta.features
        }
        named = {name: {"anyOf": [value, {"type": "boolean"}]} for name, value in values.items()}
    else:
        named = values = {each.name: _value(each, missing=each.name in meta.missing) for each in meta.inputs}
    positions: list[dict[str, Any]] = [*values.values()]
    if columns.key(meta.inputs) != "features":
        return positions[0]
    by_name = _object(named, (name for name in meta.features if name not in meta.missing))
    if not columns.by_place(meta.inputs):
        return by_name
    if all(each == positions[0] for each in positions):
        return {"anyOf": [_list(positions[0], len(positions)), by_name]}
    return {"anyOf": [{**_list(False, len(positions)), "prefixItems": positions}, by_name]}


def _value(of: Input, *, missing: bool) -> dict[str, Any]:
    """Return the schema of an input's value in JSON."""
    kinds = {"FP64": "number", "INT64": "integer", "BOOL": "boolean", "BYTES": "string"}
    one: dict[str, Any] = {"type": kinds[of.datatype]}
    if of.encoded:
        one["contentEncoding"] = "base64"
    value = _array(one) if of.listed else one
    return _gap(value) if missing else value


def _gap(value: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [value, {"type": "null"}]}


def _object(properties: dict[str, Any], required: Iterable[str] | None = None) -> dict[str, Any]:
    must = list(properties if required is None else required)
    return {"type": "object", "properties": properties, "required": must, "additionalProperties": False}


def _list(items: Any, length: int) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": length, "maxItems": length}


def _array(items: Any, most: int | None = None) -> dict[str, Any]:
    return {"type": "array", "items": items, **({"minItems": 1, "maxItems": most} if most else {})}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _json(schema: dict[str, Any], example: Any = None) -> dict[str, Any]:
    return {"application/json": {"schema": schema, **({"example": example} if example else {})}}
