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
# {name: the environment's secrets, or None if the run's branch may not use it}
Environments = dict[str, dict[str, str] | None]
SECRET = re.compile(r"\bsecrets\.([A-Za-z_]\w*)")
DENIED = "::error::This branch is not allowed to deploy to {} due to environment protection rules."


class Invalid(Exception):
    """A workflow that GitHub would refuse to start."""


def lines(environments: Environments) -> list[str]:
    """Return the secrets of all environments as NAME=value lines for act.

    act has no environments, so each secret gets a name that contains its environment's name.
    """
    return [
        f"{_own_name(name, place)}={value}"
        for place, secrets in environments.items()
        for name, value in (secrets or {}).items()
    ]


def prepared(
    files: dict[str, str], file: str, most: str, environments: Environments
) -> tuple[dict[str, str], dict[str, Grants]]:
    """Return the workflows that a run of `file` needs, as JSON (valid YAML), and each token's grants.

    `most` is the highest level of any grant: "read" for a run of a fork's pull request. A job that names an
    environment gets that environment's secrets; a job of a called workflow gets only those that the caller
    passes on. Raises Invalid if GitHub would refuse the workflow.
    """
    ready: dict[str, str] = {}
    tokens: dict[str, Grants] = {}
    held = {(name, place) for place, secrets in environments.items() for name in secrets or {}}

    def prepare(file: str, limit: Grants, passed: set[tuple[str, str]]) -> None:
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
                given = job.get("secrets") or {}
                own = {pair for pair in passed if given == "inherit" or pair[0] in given}
                if isinstance(given, dict):
                    renamed = {_own_name(*pair): f"${{{{ secrets.{_own_name(*pair)} }}}}" for pair in own}
                    job["secrets"] = {**given, **renamed}
                prepare(str(job["uses"]).removeprefix(LOCAL), asked, own)
                continue
            # Act does not support `environment` of jobs, so it is removed
            place = job.pop("environment", None)
            place = place.get("name") if isinstance(place, dict) else place
            if place in environments and environments[place] is None:
                job["steps"] = [{"run": f"echo '{DENIED.format(place)}'; exit 1"}]
            names = {secret for secret, where in passed if where == place}
            job["steps"] = _own(job.get("steps"), names, str(place))
            token = f"ghs_{token_hex(18)}"
            tokens[token] = {scope: _lower(level, most) for scope, level in asked.items() if level != "none"}
            job["env"] = {**(job.get("env") or {}), VARIABLE: token}
        on = workflow.get("on")
        # Act passes only declared secrets to a called workflow
        if passed and isinstance(on, dict) and on.get("workflow_call"):
            declared: dict[str, Any] = {_own_name(*pair): {} for pair in passed}
            on["workflow_call"]["secrets"] = {**(on["workflow_call"].get("secrets") or {}), **declared}
        ready[file] = json.dumps(workflow)

    prepare(file, dict.fromkeys(SCOPES, "write"), held)
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


def _own_name(secret: str, environment: str) -> str:
    return re.sub(r"\W", "_", f"{secret}_OF_{environment}").upper()


def _own(value: Any, names: set[str], environment: str) -> Any:
    """Return steps that read the job's own token, and an environment's secrets by the names of `lines`."""

    def own(found: re.Match[str]) -> str:
        return f"secrets.{_own_name(found[1], environment)}" if found[1] in names else found[0]

    if isinstance(value, dict):
        return {key: _own(inner, names, environment) for key, inner in value.items()}
    if isinstance(value, list):
        return [_own(inner, names, environment) for inner in value]
    return TOKEN.sub(f"env.{VARIABLE}", SECRET.sub(own, value)) if isinstance(value, str) else value
