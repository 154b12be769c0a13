"""Checks requests, answers and events against GitHub's published description.

The description is openapi.json, which openapi.py generates.
"""

import json
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from jsonschema_rs import Draft202012Validator, ValidationError

PATH = Path(__file__).with_name("openapi.json")
# Statuses of errors: every call may answer with them, but GitHub's description lists only some
ERRORS = range(400, 600)


class Contract:
    """GitHub's description of calls and events. Each schema is compiled once, when it is first used."""

    def __init__(self, described: dict[str, Any]) -> None:
        self._described = described
        self._events: dict[str, Checked] = {}

    def operation(self, how: str, path: str) -> "Operation":
        """Return the checks of one call, by its method and path template."""
        return Operation(self._described["operations"][f"{how} {path}"], self)

    def event(self, name: str, payload: dict[str, Any]) -> None:
        """Raise ValueError if an event's payload does not match GitHub's description."""
        action = payload.get("action")
        key = f"{name} {action}" if action else name
        if key not in self._events:
            self._events[key] = self.checked(self._described["events"][key])
        if wrong := self._events[key].wrong(payload):
            raise ValueError(f"the event {key} does not match GitHub's description: {wrong}")

    def checked(self, schema: dict[str, Any]) -> "Checked":
        """Return a validator for a schema, with the definitions that the schema refers to."""
        return Checked({**schema, "$defs": self._described["$defs"]})

    @cached_property
    def error(self) -> "Checked":
        return self.checked(self._described["error"])


class Checked:
    """A JSON schema, compiled when it is first used."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self._schema = schema

    @cached_property
    def _compiled(self) -> Draft202012Validator:
        return Draft202012Validator(self._schema, validate_formats=True)

    def wrong(self, value: Any) -> str:
        """Return the first mismatch and its place in `value`; empty if `value` matches the schema."""
        try:
            self._compiled.validate(value)
        except ValidationError as error:
            place = "/".join(str(part) for part in error.instance_path)
            return f"{place or 'body'}: {error.message[:500]}"
        return ""


class Operation:
    """Checks the requests and answers of one REST call."""

    def __init__(self, described: dict[str, Any], contract: Contract) -> None:
        self._contract = contract
        properties = described["query"]["properties"]
        self._numbers = [name for name, schema in properties.items() if schema.get("type") == "integer"]
        self._query = contract.checked(described["query"])
        self._body = contract.checked(described["body"]) if described["body"] else None
        answers = described["answers"].items()
        self._answers = {int(code): contract.checked(schema) if schema else None for code, schema in answers}

    def wrong_request(self, query: dict[str, str], body: dict[str, Any]) -> str:
        """Return why GitHub's description does not allow this request; empty if it is allowed."""
        numbers = {name: int(query[name]) for name in self._numbers if query.get(name, "").isdecimal()}
        if wrong := self._query.wrong(query | numbers):
            return f"query {wrong}"
        if self._body is None:
            return "no body is expected" if body else ""
        return self._body.wrong(body)

    def wrong_answer(self, status: int, content: Any) -> str:
        """Return why GitHub would not send this answer; empty if it matches the description."""
        if status in self._answers:
            schema = self._answers[status]
            return schema.wrong(content) if schema else "a body is not expected" if content else ""
        known = status in ERRORS
        return self._contract.error.wrong(content) if known else f"status {status} is not described"


@cache
def read() -> Contract:
    """Read openapi.json once, and return the checks made from it."""
    return Contract(json.loads(PATH.read_text()))
