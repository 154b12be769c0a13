"""Decides by GitHub's rules which workflows an event starts. The functions are pure."""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from starlette.exceptions import HTTPException

PULL_TYPES = ("opened", "synchronize", "reopened")
MOST_INPUTS = 25  # GitHub's limit for the inputs of one workflow_dispatch
SKIP = re.compile(r"\[(skip ci|ci skip|no ci|skip actions|actions skip)\]")


@lru_cache(maxsize=256)  # each event looks at every workflow of its commit
def parse(text: str) -> dict[str, Any]:
    """Parse a workflow file; {} if the text is not a YAML mapping. The result may not be changed."""
    try:
        workflow = YAML(typ="safe").load(text)
    except YAMLError:
        return {}
    return workflow if isinstance(workflow, dict) else {}


def trigger(workflow: dict[str, Any], event: str) -> dict[str, Any] | None:
    """Return what a workflow declares below `on:` for an event; None if the event does not start it."""
    on = workflow.get("on") or {}
    if isinstance(on, str):
        on = [on]
    if isinstance(on, list):
        on = dict.fromkeys(on)
    if event not in on:
        return None
    return {"cron": on[event]} if event == "schedule" else on[event] or {}


def starts_on_push(rule: dict[str, Any], ref: str, paths: list[str]) -> bool:
    """Return whether a push to `ref` that changes `paths` starts the workflow with this `on: push` rule."""
    kind, other = ("branches", "tags") if ref.startswith("refs/heads/") else ("tags", "branches")
    has = {key: key in rule or f"{key}-ignore" in rule for key in (kind, other)}
    if has[other] and not has[kind]:
        return False
    return _fits(rule, kind, [ref.split("/", 2)[2]]) and (kind == "tags" or _fits(rule, "paths", paths))


def starts_on_pull(rule: dict[str, Any], action: str, base: str, paths: list[str]) -> bool:
    """Return whether an event of a pull request into `base` starts the workflow with this rule."""
    return starts_on(rule, action, base, PULL_TYPES) and _fits(rule, "paths", paths)


def starts_on(rule: dict[str, Any], action: str, branch: str, types: Sequence[str] = ()) -> bool:
    """Return whether an event of a branch starts the workflow with this rule.

    `types` are the actions that start it if the rule names none; by default all.
    """
    return action in (rule.get("types") or types or [action]) and _fits(rule, "branches", [branch])


def starts_on_run(rule: dict[str, Any], name: str, branch: str) -> bool:
    """Return whether the end of a run of the workflow `name` starts the workflow with this rule."""
    named = rule.get("workflows") or []
    return name in ([named] if isinstance(named, str) else named) and starts_on(rule, "completed", branch)


def has_job(workflow: dict[str, Any], name: str) -> bool:
    """Return whether a workflow has a job of this name, or one whose name is an expression with this text."""
    names = [str((job or {}).get("name", key)) for key, job in (workflow.get("jobs") or {}).items()]
    return any(each == name or ("${{" in each and f"'{name}'" in each) for each in names)


def _fits(rule: dict[str, Any], kind: str, names: list[str]) -> bool:
    """Return whether a rule's filter of a kind (`branches`, `tags` or `paths`) lets one of the names pass."""
    if kind in rule:
        return any(selects(rule[kind], name) for name in names)
    ignored = rule.get(f"{kind}-ignore") or []
    return not ignored or not names or any(not selects(ignored, name) for name in names)


def selects(patterns: list[str] | str, name: str) -> bool:
    """Return whether GitHub's filter patterns select a name; a later pattern with `!` excludes it again."""
    chosen = False
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        if _regex(pattern.removeprefix("!")).fullmatch(name):
            chosen = not pattern.startswith("!")
    return chosen


def _regex(pattern: str) -> re.Pattern[str]:
    """Turn a GitHub filter pattern into a regular expression.

    `*` matches any text without /, `**` any text; `?`, `+` and [] mean the same as in a regular expression.
    """
    words = re.split(r"(\*\*/|\*\*|\*|[?+]|\[[^]]*\])", pattern)
    spelled = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "?", "+": "+"}
    return re.compile("".join(spelled.get(w, w if w.startswith("[") else re.escape(w)) for w in words))


def dispatch_inputs(rule: dict[str, Any], given: dict[str, Any]) -> dict[str, str]:
    """Check a workflow_dispatch's inputs and return all inputs as text, with defaults filled in.

    HTTPException 422 if the inputs do not fit the workflow.
    """
    declared: dict[str, dict[str, Any]] = {k: v or {} for k, v in (rule.get("inputs") or {}).items()}
    if (most := max(len(declared), len(given))) > MOST_INPUTS:
        raise HTTPException(422, f"At most {MOST_INPUTS} inputs are allowed; found {most}")
    if unexpected := sorted(set(given) - set(declared)):
        raise HTTPException(422, f"Unexpected inputs provided: {unexpected}")
    return {name: _input(name, spec, given.get(name)) for name, spec in declared.items()}


def _input(name: str, spec: dict[str, Any], given: Any) -> str:
    if given is None or given == "":
        if spec.get("required") and "default" not in spec:
            raise HTTPException(422, f"Required input '{name}' not provided")
        given = spec.get("default", False if spec.get("type") == "boolean" else "")
    value = str(given).lower() if isinstance(given, bool) else str(given)
    kind, said = spec.get("type", "string"), f"Provided value '{value}' for input '{name}'"
    allowed = {"choice": [str(o) for o in spec.get("options", [])], "boolean": ["true", "false"]}.get(kind)
    if allowed and value not in allowed:
        raise HTTPException(422, f"{said} not in the list of allowed values")
    if kind == "number" and not re.fullmatch(r"-?\d+(\.\d+)?", value):
        raise HTTPException(422, f"{said} is not a number")
    return value


def title(workflow: dict[str, Any], payload: dict[str, Any], otherwise: str) -> str:
    """Return a run's title: the workflow's `run-name` with inputs filled in, or `otherwise` without one."""
    named = workflow.get("run-name")
    inputs = payload.get("inputs") or {}
    if not named:
        return otherwise
    expression = re.compile(r"\$\{\{\s*(?:github\.event\.)?inputs\.([\w-]+)\s*(?:\|\|\s*'([^']*)'\s*)?\}\}")
    return expression.sub(lambda m: inputs.get(m[1]) or m[2] or "", str(named)).strip()
