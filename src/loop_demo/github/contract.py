"""Compares requests, answers and events with GitHub's published description, and completes the last two.

The description is openapi.json, which openapi.py generates. A call is named by its method and GitHub's path,
such as "GET /repos/{owner}/{repo}".
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema_rs import Draft202012Validator, ValidationError

PATH = Path(__file__).with_name("openapi.json")
ERROR = 400  # the lowest status of an error; of these, GitHub's description lists only some
BORN = "2026-01-01T00:00:00Z"  # the creation time of everything whose time is not known


@cache
def described() -> dict[str, Any]:
    """Read openapi.json once, and return its content."""
    return dict(json.loads(PATH.read_text()))


def wrong_request(call: str, query: dict[str, str], body: dict[str, Any]) -> str:
    """Return why GitHub's description does not allow this request; empty if it is allowed."""
    fields = described()["operations"][call]["query"]["properties"]
    integers = (name for name, schema in fields.items() if schema.get("type") == "integer")
    numbers = {name: int(query[name]) for name in integers if query.get(name, "").isdecimal()}
    wrong = _wrong(query | numbers, "operations", call, "query")
    return f"query {wrong}" if wrong else _wrong(body, "operations", call, "body")


def success(call: str) -> int:
    """Return the status of a call that succeeds and has an answer."""
    return min(int(status) for status in described()["operations"][call]["answers"])


def answer(call: str, status: int, content: Any) -> tuple[Any, str]:
    """Return the complete answer, and why GitHub would not send it; empty if it matches the description.

    An error gets no placeholders, because the stand-in itself gives all fields of its errors.
    """
    answers = described()["operations"][call]["answers"]
    place = ("operations", call, "answers", str(status)) if str(status) in answers else ("error",)
    if status < ERROR:
        if place == ("error",):
            return content, f"status {status} is not described"
        content = completed(answers[str(status)], content)
    return content, _wrong(content, *place)


def event(name: str, payload: dict[str, Any]) -> dict[str, Any]:
    """Return the complete payload of an event; ValueError if it does not match GitHub's description."""
    if name == "schedule":
        return payload  # GitHub does not describe it, because no webhook gets it
    key = f"{name} {payload['action']}" if "action" in payload else name
    payload = completed(described()["events"][key], payload)
    if wrong := _wrong(payload, "events", key):
        raise ValueError(f"the event {key} does not match GitHub's description: {wrong}")
    return payload


def completed(schema: dict[str, Any], value: Any, url: str = "") -> Any:
    """Return `value` with placeholders for required fields that it, or an object inside it, lacks.

    The stand-in itself gives every field that the template reads. `url` is for objects that have none.
    """
    schema = _followed(schema)
    if isinstance(value, list):
        return [completed(schema.get("items", {}), each, url) for each in value]
    if not isinstance(value, dict):
        return value
    fields, url = schema.get("properties", {}), str(value.get("url", url))
    absent = (name for name in schema.get("required", ()) if name not in value)
    return {name: _placeholder(name, fields[name], url) for name in absent} | {
        name: completed(fields.get(name, {}), each, url) for name, each in value.items()
    }


def _placeholder(name: str, schema: dict[str, Any], url: str) -> Any:
    """Return the value of a required field that nobody reads, in an object with this URL."""
    schema = _followed(schema)
    if not isinstance(kind := schema.get("type"), str):
        return None  # the field is nullable, which is a list of types
    if name.endswith("url"):
        return f"{url}/{name}"
    if kind == "object":
        return completed(schema, {}, url)
    text = BORN if schema.get("format") == "date-time" else schema.get("enum", [""])[0]
    return {"boolean": False, "integer": 0, "array": [], "string": text}[kind]


def _followed(schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        schema = described()["$defs"][schema["$ref"].removeprefix("#/$defs/")]
    return schema


@cache
def _compiled(*place: str) -> Draft202012Validator:
    schema = described()
    for key in place:
        schema = schema[key]
    return Draft202012Validator({**schema, "$defs": described()["$defs"]}, validate_formats=True)


def _wrong(value: Any, *place: str) -> str:
    """Return why the value does not match the schema at a place in openapi.json; empty if it matches."""
    try:
        _compiled(*place).validate(value)
    except ValidationError as error:
        where = "/".join(str(part) for part in error.instance_path)
        return f"{where or 'body'}: {error.message[:500]}"
    return ""
