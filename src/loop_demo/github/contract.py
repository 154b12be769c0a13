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
# Statuses of errors: every call may answer with them, but GitHub's description lists only some
ERRORS = range(400, 600)
BORN = "2026-01-01T00:00:00Z"  # the creation time of everything whose time is not known


@cache
def described() -> dict[str, Any]:
    """Read openapi.json once, and return its content."""
    return dict(json.loads(PATH.read_text()))


def wrong_request(call: str, query: dict[str, str], body: dict[str, Any]) -> str:
    """Return why GitHub's description does not allow this request; empty if it is allowed."""
    operation = described()["operations"][call]
    kinds = {name: schema.get("type") for name, schema in operation["query"]["properties"].items()}
    numbers = {n: int(query[n]) for n in query if kinds.get(n) == "integer" and query[n].isdecimal()}
    if wrong := _wrong(query | numbers, "operations", call, "query"):
        return f"query {wrong}"
    if operation["body"] is None:
        return "no body is expected" if body else ""
    return _wrong(body, "operations", call, "body")


def success(call: str) -> int:
    """Return the status of a call that succeeds and has an answer."""
    return min(int(status) for status in described()["operations"][call]["answers"])


def answer(call: str, status: int, content: Any) -> tuple[Any, str]:
    """Return the complete answer, and why GitHub would not send it; empty if it matches the description.

    An error gets no placeholders, because the stand-in itself gives all fields of its errors.
    """
    answers = described()["operations"][call]["answers"]
    if str(status) not in answers:
        known = status in ERRORS
        return content, _wrong(content, "error") if known else f"status {status} is not described"
    if (schema := answers[str(status)]) is None:
        return content, "a body is not expected" if content else ""
    if status not in ERRORS:
        content = completed(schema, content)
    return content, _wrong(content, "operations", call, "answers", str(status))


def event(name: str, payload: dict[str, Any]) -> dict[str, Any]:
    """Return the complete payload of an event; ValueError if it does not match GitHub's description."""
    key = f"{name} {payload['action']}" if "action" in payload else name
    payload = completed(described()["events"][key], payload)
    if wrong := _wrong(payload, "events", key):
        raise ValueError(f"the event {key} does not match GitHub's description: {wrong}")
    return payload


def completed(schema: dict[str, Any], value: Any) -> Any:
    """Return `value` with placeholders for required fields that it, or an object inside it, lacks.

    Objects have no placeholder. The stand-in itself gives every field that the template reads.
    """
    while "$ref" in schema:
        schema = described()["$defs"][schema["$ref"].removeprefix("#/$defs/")]
    if isinstance(value, list):
        return [completed(schema.get("items", {}), each) for each in value]
    if not isinstance(value, dict):
        return value
    for part in schema.get("allOf", []):
        value = completed(part, value)
    fields, url = schema.get("properties", {}), str(value.get("url"))
    full = dict(schema.get("default", {}))
    for name, placeholder in full.items():
        if isinstance(placeholder, str):
            full[name] = placeholder.replace("{url}", url)
    return full | {name: completed(fields.get(name, {}), each) for name, each in value.items()}


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
