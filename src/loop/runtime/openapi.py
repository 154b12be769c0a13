"""Creates the OpenAPI document for the model that is served: the requests and responses of its paths.

The schemas of requests are those of the types that decode them.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from loop.runtime import openai, v2
from loop.runtime.model import Model
from loop.runtime.rows import NPY, Decoder, Id

PLACE = "#/components/schemas/{name}"
TEXT, INTEGER, NUMBER = {"type": "string"}, {"type": "integer"}, {"type": "number"}
REFUSED = {
    "400": "The body is neither JSON nor a valid array.",
    "408": "The body was not received in time.",
    "413": "Too many rows, or too many bytes.",
    "415": "The body has a Content-Encoding.",
    "422": "A field is wrong; the response names it and says why.",
    "429": "Too many requests are waiting; retry after Retry-After seconds.",
    "500": "The model failed.",
}


def document(model: Model, decoder: Decoder, max_bytes: int) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document, with the model's features by name and its example."""
    name = model.release.model
    text = (
        "JSON, optionally followed by binary tensors. A tensor `id` of BYTES or INT64 may give"
        " each row an id, by which its label can be matched later."
    )
    infer = _post("Score rows by the Open Inference Protocol V2.", "Inference", "Inferred", description=text)
    infer["post"]["responses"]["200"]["content"]["application/octet-stream"] = {"schema": TEXT}
    embed = _post("Embed texts with OpenAI's embeddings API.", "Texts", "Vectors")
    embed["post"]["responses"]["404"] = _answer("The model has another name.", "Error")
    paths = {
        "/predict": _predict(model, decoder, max_bytes),
        "/health": _get("Whether the server is running, and which model version it serves.", "Health"),
        f"/v2/models/{name}": _get("The model's inputs and outputs, in the protocol's words.", "Metadata"),
        f"/v2/models/{name}/infer": infer,
        **({"/v1/embeddings": embed} if openai.speaks(model) else {}),
    }
    schemas = {"schemas": _schemas(model, decoder)}
    info = {"title": name, "version": model.release.key}
    return {"openapi": "3.1.0", "info": info, "paths": paths, "components": schemas}


def _predict(model: Model, decoder: Decoder, max_bytes: int) -> dict[str, Any]:
    key, example = decoder.key, model.meta.example
    row = example[key] if isinstance(example, dict) and key != "features" else example
    text = (
        f"At most {max_bytes} bytes, without a Content-Encoding."
        " Several rows have either no ids or one id per row."
    )
    if model.meta.matrix:
        text += (
            f" {NPY.decode()} is what numpy.save writes: one row (f,) or many (n, f) of float32 or float64;"
            " its response is JSON too."
        )
    given = {"name": "X-Request-ID", "in": "header", "required": False, "schema": TEXT}
    path = _post("Score one row or several rows.", "Request", "Answer", description=text, parameters=[given])
    content, responses = path["post"]["requestBody"]["content"], path["post"]["responses"]
    content["application/json"]["example"] = {key: row, "id": 1}
    if model.meta.matrix:
        array = {"type": "string", "format": "binary", "contentMediaType": NPY.decode()}
        content[NPY.decode()] = {"schema": array}
    for response in responses.values():
        response["headers"] = {"X-Request-ID": {"schema": TEXT, "description": "The caller's, or a new one."}}
    responses["429"]["headers"]["Retry-After"] = {"schema": INTEGER, "description": "Seconds."}
    return path


def _schemas(model: Model, decoder: Decoder) -> dict[str, Any]:
    """Return every schema by its name."""
    meta, types = model.meta, (*decoder.types, v2.Inference, openai.Texts)
    asked, schemas = msgspec.json.schema_components(types, ref_template=PLACE)
    told, version = "embedding" if meta.task == "embedding" else "score", {"model_version": TEXT}
    score = {told: _array(NUMBER, meta.width) if meta.width else NUMBER}
    score |= {"class": {"enum": list(meta.classes)}} if meta.classes else {}
    score |= {name: {} for name in model.named}  # {} allows any JSON value
    scores = {name: _array(schema) for name, schema in score.items()}
    one_id = msgspec.json.schema(Id)
    answers = [
        _object({**version, **of, "id": ids}, [*version, *of])
        for of, ids in ((score, one_id), (scores, _array(one_id)))
    ]
    tensor = {"name": TEXT, "datatype": TEXT, "shape": _array(INTEGER)}
    output = _object({**tensor, "data": _array({}), "parameters": {}}, tensor)
    inferred = {"model_name": TEXT, **version, "outputs": _array(output)}
    vector = {"anyOf": [_array(NUMBER, meta.width), {**TEXT, "contentEncoding": "base64"}]}
    embedded = _object({"object": TEXT, "index": INTEGER, "embedding": vector})
    usage = _object({"prompt_tokens": INTEGER, "total_tokens": INTEGER})
    return {
        **schemas,
        "Request": {"anyOf": asked[:2]},
        "Answer": {"anyOf": answers},
        "Metadata": {"type": "object"},
        "Inferred": _object({**inferred, "id": TEXT}, inferred),
        "Vectors": _object({"object": TEXT, "data": _array(embedded), "model": TEXT, "usage": usage}),
        "Health": _object({"status": TEXT, **version, "engine": TEXT}),
        "Error": _object({"error": TEXT, "field": TEXT}),
    }


def _post(summary: str, asked: str, answer: str, **more: Any) -> dict[str, Any]:
    """Return a path that takes a body, and can refuse it beside giving the answer."""
    answers = {"200": _answer("The answer.", answer)}
    answers |= {status: _answer(why, "Error") for status, why in REFUSED.items()}
    body = {"required": True, "content": _json(asked)}
    return {"post": {"summary": summary, **more, "requestBody": body, "responses": answers}}


def _get(summary: str, answer: str) -> dict[str, Any]:
    return {"get": {"summary": summary, "responses": {"200": _answer("The answer.", answer)}}}


def _answer(description: str, schema: str) -> dict[str, Any]:
    return {"description": description, "content": _json(schema)}


def _json(schema: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": PLACE.format(name=schema)}}}


def _object(properties: dict[str, Any], required: Iterable[str] | None = None) -> dict[str, Any]:
    must = list(properties if required is None else required)
    return {"type": "object", "properties": properties, "required": must, "additionalProperties": False}


def _array(items: Any, length: int | None = None) -> dict[str, Any]:
    return {"type": "array", "items": items, **({"minItems": length, "maxItems": length} if length else {})}
