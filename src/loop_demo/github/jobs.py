"""Prepares workflows for act as GitHub does: each job gets its own token, with only its permissions.

act gives all jobs the same token. So the stand-in runs a copy of the workflows, in which each job's
environment variables hold the job's own token and `github.token` reads it from there.
"""

import json
import re
from copy import deepcopy
from secrets import token_hex
from typing import Any

from loop_demo.github import events

VARIABLE = "STAND_IN_TOKEN"
TOKEN = re.compile(r"\b(?:github\.token|secrets\.GITHUB_TOKEN)\b")
LOCAL = "./.github/workflows/"
SCOPES = ("actions", "checks", "contents", "issues", "pull-requests", "statuses")
LEVELS = ("none", "read", "write")

Grants = dict[str, str]  # {scope: read or write}


class Invalid(Exception):
    """A workflow that GitHub would refuse to start."""


def prepared(files: dict[str, str], file: str, most: str) -> tuple[dict[str, str], dict[str, Grants]]:
    """Return the workflows that a run of `file` needs, as JSON (valid YAML), and each token's grants.

    `most` is the highest level of any grant: "read" for a run of a fork's pull request. Raises Invalid if
    GitHub would refuse the workflow.
    """
    ready: dict[str, str] = {}
    tokens: dict[str, Grants] = {}

    def prepare(file: str, limit: Grants) -> None:
        if file in ready:
            raise Invalid(f"{file} is called twice in one run, which the stand-in does not support")
        if file not in files:
            raise Invalid(f"error parsing called workflow: {LOCAL}{file} was not found")
        workflow = deepcopy(events.parse(files[file]))
        ready[file] = ""
        for name, job in (workflow.get("jobs") or {}).items():
            asked = granted(job.get("permissions", workflow.get("permissions")))
            if over := [scope for scope, level in asked.items() if _lower(level, limit.get(scope)) != level]:
                raise Invalid(f"{file}: job {name} requests more permissions than its caller grants: {over}")
            if "uses" in job:
                prepare(str(job["uses"]).removeprefix(LOCAL), asked)
                continue
            job.pop("environment", None)  # act does not support environments of jobs
            token = f"ghs_{token_hex(18)}"
            tokens[token] = {scope: _lower(level, most) for scope, level in asked.items() if level != "none"}
            job["env"] = {**(job.get("env") or {}), VARIABLE: token}
            job["steps"] = json.loads(TOKEN.sub(f"env.{VARIABLE}", json.dumps(job.get("steps"))))
        ready[file] = json.dumps(workflow)

    prepare(file, dict.fromkeys(SCOPES, "write"))
    return ready, tokens


def granted(permissions: Any) -> Grants:
    """Return the grants of `permissions:`; without it, contents may be read, as in a new repository."""
    if permissions is None:
        return {"contents": "read"}
    if isinstance(permissions, str):
        return dict.fromkeys(SCOPES, permissions.removesuffix("-all"))
    return {scope: level for scope, level in permissions.items() if scope in SCOPES}


def allows(grants: Grants, scope: str, level: str) -> bool:
    """Return whether these grants allow a level in a scope; the right to write includes the right to read."""
    return _lower(grants.get(scope, "none"), level) == level


def _lower(level: str, other: str | None) -> str:
    return min(level, other or "none", key=LEVELS.index)
