"""What /predict takes and gives, as an OpenAPI document of this very model."""

from typing import Any

from loop.serving.packed.model import Model
from loop.serving.packed.rows import LONGEST_ID, NPY, OVER

REFUSED = {
    "400": "The body is not JSON, or no array.",
    "408": "The body did not come to its end in time.",
    "413": "Too many rows, or too many bytes.",
    "415": "The body's Content-Encoding is another than gzip.",
    "422": "A field is wrong: which one, and how.",
    "429": "Too many requests wait: come again after Retry-After seconds.",
    "500": "The model failed.",
}


def document(model: Model, max_rows: int, max_bytes: int) -> dict[str, Any]:
    """OpenAPI 3.1, with the model's features by name and its own example."""
    health = _answered("It serves.", _json(_ref("Health")))
    text = {"text/plain": {"schema": {"type": "string"}}}
    ready = {"200": _answered("Ready.", text), "503": _answered("It ends: no more requests, please.", text)}
    return {
        "openapi": "3.1.0",
        "info": {"title": model.release.model, "version": model.release.key},
        "paths": {
            "/predict": {"post": _predict(model, max_bytes)},
            "/health": _get("Whether it serves, and which version.", {"200": health}),
            "/readyz": _get("Whether it takes requests; inside the cluster only.", ready),
            "/livez": _get(
                "Whether the process lives; inside the cluster only.",
                {"200": _answered("It lives.", text)},
            ),
            "/metrics": _get(
                "Prometheus' text format; inside the cluster only.",
                {"200": _answered("The metrics.", text)},
            ),
        },
        "components": {"schemas": _schemas(model, max_rows)},
    }


def _predict(model: Model, max_bytes: int) -> dict[str, Any]:
    echoed = {"X-Request-ID": {"schema": {"type": "string"}, "description": "The caller's own, or one made."}}
    error = _json(_ref("Error"))
    refused = {status: {**_answered(what, error), "headers": echoed} for status, what in REFUSED.items()}
    later = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}}
    refused["429"]["headers"] = {**echoed, **later}
    npy = {"schema": {"type": "string", "format": "binary", "contentMediaType": NPY.decode()}}
    return {
        "summary": "Score one row, or many.",
        "description": f"At most {max_bytes} bytes, as it comes and, where its Content-Encoding is gzip, "
        f"unpacked. Of many rows, as many ids as rows. {NPY.decode()} is "
        "what numpy.save writes: one row (f,) or many (n, f) of float32 or float64; its answer is JSON too.",
        "parameters": [
            {"name": "X-Request-ID", "in": "header", "required": False, "schema": {"type": "string"}}
        ],
        "requestBody": {
            "required": True,
            "content": {**_json(_ref("Request"), _example(model)), NPY.decode(): npy},
        },
        "responses": {
            "200": {**_answered("One answer, or a list of them.", _json(_ref("Answer"))), "headers": echoed},
            **refused,
        },
    }


def _get(summary: str, responses: dict[str, Any]) -> dict[str, Any]:
    return {"get": {"summary": summary, "responses": responses}}


def _answered(description: str, content: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": content}


def _schemas(model: Model, max_rows: int) -> dict[str, Any]:
    features = model.meta.features
    number, text = {"type": "number", "exclusiveMinimum": -OVER, "exclusiveMaximum": OVER}, {"type": "string"}
    one_id = {"type": ["string", "integer", "null"], "minimum": 1 - 2**63, "maximum": 2**63 - 1}
    one_id |= {"maxLength": LONGEST_ID}
    ids = {"type": ["array", "null"], "items": one_id}
    share = {"type": "number"}
    score = _list(share, len(model.meta.classes)) if model.meta.task == "multiclass" else share
    label = {"class": {"type": "integer", "enum": list(model.meta.classes)}} if model.meta.classes else {}
    by_name = _object(dict.fromkeys(features, number), features)
    row = {"anyOf": [_list(number, len(features)), by_name]}
    rows = {"type": "array", "items": row, "minItems": 1, "maxItems": max_rows}
    version = {"model_version": text}
    one = {"id": one_id, "score": score, **label}
    many = {name: {"type": "array", "items": schema} for name, schema in one.items()}
    answer = ("model_version", "score", *label)
    return {
        "Row": row,
        "Request": {
            "oneOf": [
                _object({"features": _ref("Row"), "id": one_id}, ("features",)),
                _object({"features": rows, "id": ids}, ("features",)),
            ]
        },
        "Answer": {"oneOf": [_object({**version, **one}, answer), _object({**version, **many}, answer)]},
        "Health": _object({"status": text, **version}, ("status", "model_version")),
        "Error": _object({"error": text, "field": text}, ("error", "field")),
    }


def _example(model: Model) -> dict[str, Any]:
    return {"features": model.meta.example, "id": 1}


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
