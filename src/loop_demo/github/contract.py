"""Whether a call, its answer and an event are as GitHub describes them (openapi.json, by openapi.py)."""

import json
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from jsonschema_rs import Draft202012Validator, ValidationError

PATH = Path(__file__).with_name("openapi.json")
ERRORS = range(400, 600)  # any call may end so; the description lists only some


class Contract:
    """The description; what is asked of it is compiled once."""

    def __init__(self, described: dict[str, Any]) -> None:
        self._described = described
        self._events: dict[str, Checked] = {}

    def operation(self, how: str, path: str) -> "Operation":
        """One call, by method and path template."""
        return Operation(self._described["operations"][f"{how} {path}"], self)

    def event(self, name: str, payload: dict[str, Any]) -> None:
        """Fail where a payload is not as GitHub sends it. Timers have none that GitHub describes."""
        action = payload.get("action")
        key = f"{name} {action}" if action else name
        if key not in self._events:
            self._events[key] = self.checked(self._described["events"][key])
        if wrong := self._events[key].wrong(payload):
            raise ValueError(f"the event {key} is not as GitHub describes it: {wrong}")

    def checked(self, schema: dict[str, Any]) -> "Checked":
        """A compiled schema."""
        return Checked({**schema, "$defs": self._described["$defs"]})

    @cached_property
    def error(self) -> "Checked":
        return self.checked(self._described["error"])


class Checked:
    """One schema, compiled when it is first needed."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self._schema = schema

    @cached_property
    def _compiled(self) -> Draft202012Validator:
        return Draft202012Validator(self._schema, validate_formats=True)

    def wrong(self, value: Any) -> str:
        """What does not fit, with its place; empty where all does."""
        try:
            self._compiled.validate(value)
        except ValidationError as error:
            place = "/".join(str(part) for part in error.instance_path)
            return f"{place or 'body'}: {error.message[:500]}"
        return ""


class Operation:
    """One call."""

    def __init__(self, described: dict[str, Any], contract: Contract) -> None:
        self._contract, self._numbers = contract, []
        properties = described["query"]["properties"]
        self._numbers = [name for name, schema in properties.items() if schema.get("type") == "integer"]
        self._query = contract.checked(described["query"])
        self._body = contract.checked(described["body"]) if described["body"] else None
        self._answers = {
            int(status): contract.checked(schema) if schema else None
            for status, schema in described["answers"].items()
        }

    def wrong_request(self, query: dict[str, str], body: dict[str, Any]) -> str:
        """What GitHub's description does not let be sent."""
        typed = {
            name: int(value) if name in self._numbers and value.isdecimal() else value
            for name, value in query.items()
        }
        if wrong := self._query.wrong(typed):
            return f"query {wrong}"
        if self._body is None:
            return "no body is expected" if body else ""
        return self._body.wrong(body)

    def wrong_answer(self, status: int, content: Any) -> str:
        """What GitHub would not answer."""
        if status in self._answers:
            schema = self._answers[status]
            return schema.wrong(content) if schema else "a body is not expected" if content else ""
        return (
            self._contract.error.wrong(content) if status in ERRORS else f"status {status} is not described"
        )


@cache
def read() -> Contract:
    """The description that is kept here."""
    return Contract(json.loads(PATH.read_text()))
