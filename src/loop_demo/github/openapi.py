"""Regenerates openapi.json, GitHub's published description of the calls and events that the project uses.

Run it by `make github-openapi` after adding a route or changing a version; it needs npm. GitHub publishes
OpenAPI; openapi.json has it as plain JSON Schema without descriptions. The schemas allow no additional
fields, so that a field which GitHub has renamed is noticed in requests and in answers.
"""

import base64
import hashlib
import json
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from loop_demo.github import contract

FILE, LICENSE = "package/generated/api.github.com.json", "package/LICENSE"
# The npm package, and its hash as `npm view PACKAGE dist.integrity` prints it after `sha512-`
PACKAGE = "@octokit/openapi@23.0.2"
SHA512 = "pV8M7L9GY23AybNvTmo2nyjmpmnt6+2sRE/tqr0ZLQcPS4lnw7u5eZGNmwRNkBC3D7gZXbFx5AHzLUVRBXGDhg=="
EVENTS = (
    *("push", "workflow_dispatch", "merge_group checks_requested", "workflow_run completed"),
    *(f"pull_request {action}" for action in ("opened", "synchronize", "reopened", "edited", "closed")),
)
KEPT = ("type", "required", "enum", "const")
LIMITS = ("maxProperties", "minItems", "maxItems", "minLength", "maxLength")


def published() -> tuple[dict[str, Any], str]:
    """Download the pinned npm package, check it, and return GitHub's description and its license."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["npm", "pack", "--silent", PACKAGE]
        done = subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True)
        packed = Path(folder, done.stdout.strip())
        found = base64.b64encode(hashlib.sha512(packed.read_bytes()).digest()).decode()
        if found != SHA512:
            sys.exit(f"{PACKAGE}: its SHA-512 is {found}, expected {SHA512}; do not use it")
        with tarfile.open(packed) as tar:
            members = (tar.extractfile(name) for name in (FILE, LICENSE))
            description, license_text = (member.read().decode() for member in members if member)
        return json.loads(description), license_text


class Described:
    """GitHub's description. `defs` collects the definitions that the converted schemas refer to."""

    def __init__(self, whole: dict[str, Any]) -> None:
        self.whole, self.defs = whole, dict[str, Any]()

    def follow(self, node: dict[str, Any]) -> dict[str, Any]:
        """Return the object that a `$ref` names, or the node itself if it has no `$ref`."""
        if "$ref" not in node:
            return node
        found: Any = self.whole
        for part in node["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        return dict(found)

    def schema(self, node: dict[str, Any]) -> dict[str, Any]:
        """Convert an OpenAPI schema to plain JSON Schema, which forbids fields that are not described."""
        if "$ref" in node:
            name = node["$ref"].rpartition("/")[2]
            if name not in self.defs:
                self.defs[name] = {}
                self.defs[name] = self.schema(self.follow(node))
            return {"$ref": f"#/$defs/{name}"}
        if "allOf" in node:
            node = self.merged(node)
        made = {key: node[key] for key in (*KEPT, *LIMITS) if key in node}
        if node.get("format") in ("date-time", "uri"):
            made["format"] = node["format"]
        if "properties" in node:
            made["properties"] = {name: self.schema(part) for name, part in node["properties"].items()}
            made["additionalProperties"] = node.get("additionalProperties", False)
        for key in ("items", "additionalProperties"):
            if isinstance(node.get(key), dict):
                made[key] = self.schema(node[key])
        for key in ("anyOf", "oneOf"):
            if key in node:
                made[key] = [self.schema(part) for part in node[key]]
        return _nullable(made) if node.get("nullable") else made

    def merged(self, node: dict[str, Any]) -> dict[str, Any]:
        """Return an `allOf` as one object, because each part describes only some of its fields."""
        parts = [self.follow(part) for part in node["allOf"]]
        fields = {name: field for part in parts for name, field in part.get("properties", {}).items()}
        required = dict.fromkeys(name for part in parts for name in part.get("required", []))
        return {**node, "type": "object", "properties": fields, "required": list(required)}

    def operation(self, how: str, path: str) -> dict[str, Any]:
        """Return the schemas of one call's query, body and answers."""
        found = self.whole["paths"][path][how.lower()]
        parameters = [self.follow(parameter) for parameter in found.get("parameters", [])]
        query = {p["name"]: self.schema(p["schema"]) for p in parameters if p["in"] == "query"}
        return {
            "query": {"type": "object", "properties": query, "additionalProperties": False},
            "body": self._content(found.get("requestBody", {}), {"type": "object", "maxProperties": 0}),
            "answers": {
                status: self._content(self.follow(answer), {"type": "null"})
                for status, answer in found["responses"].items()
            },
        }

    def _content(self, node: dict[str, Any], otherwise: dict[str, Any]) -> dict[str, Any]:
        content = node.get("content", {}).get("application/json")
        return self.schema(content["schema"]) if content else otherwise

    def event(self, name: str) -> dict[str, Any]:
        """Return the schema of the payload of an event, such as "workflow_run completed"."""
        hook = self.whole["x-webhooks"][re.sub("[ _]", "-", name)]["post"]
        return self._content(hook["requestBody"], {})


def _nullable(made: dict[str, Any]) -> dict[str, Any]:
    if "enum" in made and None not in made["enum"]:
        made["enum"] = [*made["enum"], None]
    if isinstance(made.get("type"), str):
        made["type"] = [made["type"], "null"]
        return made
    return {"anyOf": [made, {"type": "null"}]}


def main() -> None:
    """Write openapi.json."""
    from loop_demo.github.app import GITHUBS

    whole, license_text = published()
    described = Described(whole)
    kept = {
        "from": PACKAGE,
        "license": license_text,  # it requires that its text goes with the description
        "operations": {f"{how} {path}": described.operation(how, path) for how, path, *_ in GITHUBS},
        "error": described.schema({"$ref": "#/components/schemas/basic-error"}),
        "events": {event: described.event(event) for event in EVENTS},
        "$defs": described.defs,
    }
    contract.PATH.write_text(json.dumps(kept, separators=(",", ":"), sort_keys=True) + "\n")
    print(f"{contract.PATH.name}: {contract.PATH.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
