"""What GitHub does to a workflow before it runs: each job gets a token of its own, for just its permissions.

act knows one token for all jobs. So a copy of the workflows is made in which every job's environment holds
its token, and `github.token` reads it from there.
"""

import json
import re
from secrets import token_hex
from typing import Any

import events

VARIABLE = "STAND_IN_TOKEN"
TOKEN = re.compile(r"\b(?:github\.token|secrets\.GITHUB_TOKEN)\b")
LOCAL = "./.github/workflows/"
SCOPES = ("actions", "checks", "contents", "issues", "pull-requests", "statuses")
LEVELS = ("none", "read", "write")

Grants = dict[str, str]  # {scope: read or write}


class Invalid(Exception):
    """GitHub would not start this workflow."""


def prepared(files: dict[str, str], file: str, most: str) -> tuple[dict[str, str], dict[str, Grants]]:
    """The workflows that a run of `file` needs, as JSON (which is YAML), and what each token in them may do.

    `most` is the highest level of any grant: "read" for a run of a fork's pull request.
    """
    ready: dict[str, str] = {}
    tokens: dict[str, Grants] = {}

    def prepare(file: str, limit: Grants) -> None:
        if file in ready:
            raise Invalid(f"{file} is called twice in one run: the stand-in gives its jobs one token each")
        if file not in files:
            raise Invalid(f"error parsing called workflow: {LOCAL}{file} was not found")
        workflow = events.parse(files[file])
        ready[file] = ""
        for name, job in (workflow.get("jobs") or {}).items():
            asked = granted(job.get("permissions", workflow.get("permissions")))
            if over := [scope for scope, level in asked.items() if _lower(level, limit.get(scope)) != level]:
                raise Invalid(f"{file}: job {name} asks for more than its caller grants: {over}")
            if "uses" in job:
                prepare(str(job["uses"]).removeprefix(LOCAL), asked)
                continue
            token = f"ghs_{token_hex(18)}"
            tokens[token] = {scope: _lower(level, most) for scope, level in asked.items() if level != "none"}
            job["env"] = {**(job.get("env") or {}), VARIABLE: token}
            job["steps"] = _own_token(job.get("steps"))
        ready[file] = json.dumps(workflow)

    prepare(file, dict.fromkeys(SCOPES, "write"))
    return ready, tokens


def granted(permissions: Any) -> Grants:
    """What `permissions:` gives; where nothing is said, what new repositories give: reading the contents."""
    if permissions is None:
        return {"contents": "read"}
    if isinstance(permissions, str):
        return dict.fromkeys(SCOPES, permissions.removesuffix("-all"))
    return {scope: level for scope, level in permissions.items() if scope in SCOPES}


def _lower(level: str, other: str | None) -> str:
    return min(level, other or "none", key=LEVELS.index)


def _own_token(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _own_token(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_own_token(inner) for inner in value]
    return TOKEN.sub(f"env.{VARIABLE}", value) if isinstance(value, str) else value
