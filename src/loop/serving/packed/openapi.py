"""What /predict takes and gives, as an OpenAPI document of this very model."""

from typing import Any

from loop.serving.packed.model import Model


def document(model: Model, max_rows: int) -> dict[str, Any]:
    """OpenAPI 3.1, with the model's features by name and its own example."""
    refused = {"description": "What is wrong, and with which field.", "content": _json(_ref("Error"))}
    predict = {
        "summary": "Score one row, or many.",
        "requestBody": {"required": True, "content": _json(_ref("Request"), _example(model))},
        "responses": {
            "200": {"description": "One answer, or a list of them.", "content": _json(_ref("Answer"))},
            **dict.fromkeys(("400", "413", "422", "500"), refused),
        },
    }
    health = {
        "summary": "Whether it serves, and which version.",
        "responses": {"200": {"description": "It serves.", "content": _json(_ref("Health"))}},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": model.release.model, "version": model.release.key},
        "paths": {"/predict": {"post": predict}, "/health": {"get": health}},
        "components": {"schemas": _schemas(model, max_rows)},
    }


def _schemas(model: Model, max_rows: int) -> dict[str, Any]:
    features = model.meta.features
    number, text = {"type": "number"}, {"type": "string"}
    one_id = {"type": ["string", "integer", "null"]}
    score = number if model.meta.task == "binary" else _list(number, len(model.meta.classes))
    label = {"type": "integer", "enum": list(model.meta.classes)}
    by_name = _object(dict.fromkeys(features, number), features)
    row = {"anyOf": [_list(number, len(features)), by_name]}
    rows = {"type": "array", "items": row, "minItems": 1, "maxItems": max_rows}
    version = {"model_version": text}
    one = {"id": one_id, "score": score, "class": label}
    many = {name: {"type": "array", "items": schema} for name, schema in one.items()}
    answer = ("model_version", "score", "class")
    return {
        "Row": row,
        "Request": {
            "oneOf": [
                _object({"features": _ref("Row"), "id": one_id}, ("features",)),
                _object({"features": rows, "id": {"type": "array", "items": one_id}}, ("features",)),
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
