"""The reference pages of the site: params.yaml, commands, exit codes, metrics and alerts, from the code."""

import inspect
import json
import re
import sys
from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path, PurePosixPath
from typing import Any

import click
from pydantic import BaseModel
from ruamel.yaml import YAML

from loop.cli import SECTIONS, cli
from loop.core import models, params
from loop.core.errors import Exit
from loop.monitoring.report import GAUGES, RETRAININGS
from loop.runtime.metrics import Metrics

MODEL = "models.<package>"
RULES = "kustomize/platform/monitoring/rules.yaml"
BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def pages(root: Path) -> dict[str, str]:
    """The pages in Markdown, by file name."""
    return {
        "params.md": "\n".join(_params(root)),
        "commands.md": "\n".join(_commands()),
        "metrics.md": "\n".join(_metrics(root)),
        "alerts.md": "\n".join(_alerts(root)),
        "exit-codes.md": "\n".join(_exits()),
    }


def comments(kind: type) -> dict[str, str]:
    """The comment of each attribute of a class: on its last line, or on the lines above it."""
    texts: dict[str, str] = {}
    above, name = "", ""
    for line in inspect.getsource(kind).splitlines():
        code, _, comment = line.partition("# ")
        if begun := re.match(r"    (\w+)(:| =)", code):
            name = begun[1]
            texts[name] = above + comment
        elif name and re.match(r"    [)\]}]", code):
            texts[name] += comment
        above = "" if code.strip() else f"{above}{comment} "
    return {name: text.strip() for name, text in texts.items()}


def table(head: str, rows: Iterable[list[str]]) -> Iterator[str]:
    """A Markdown table; `head` names its columns, parted by bars."""
    columns = head.split("|")
    yield from ("", f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}")
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', '&#124;').replace(chr(10), ' ') for cell in row)} |"
    yield ""


def typed(schema: dict[str, Any]) -> str:
    """A JSON schema in words."""
    match schema:
        case {"$ref": _}:
            found = "section"
        case {"const": value}:
            found = f"`{value}`"
        case {"enum": values}:
            found = " or ".join(f"`{value}`" for value in values)
        case {"anyOf": several} | {"oneOf": several}:
            found = " or ".join(dict.fromkeys(map(typed, several)))
        case {"items": inside} | {"prefixItems": [inside, *_]}:
            found = f"list of {typed(inside)}"
        case {"additionalProperties": {"type": _} | {"enum": _} as values}:
            found = f"mapping of names to {typed(values)}"
        case _:
            limits = [f"{sign} {schema[key]}" for key, sign in BOUNDS.items() if key in schema]
            name = schema.get("format", schema.get("type", "any"))
            found = " ".join([name, ", ".join(limits)]).strip()
    return found


def sections(kind: type[BaseModel], keys: str, level: int = 3) -> Iterator[str]:
    """A heading and a table for a section of params.yaml at these keys, and for each section in it."""
    schema, told = kind.model_json_schema(), comments(kind)
    variant = schema["properties"].get("kind", {}).get("const")
    yield f"\n{'#' * level} `{keys or MODEL}`{f', kind `{variant}`' if variant else ''}\n"
    yield escape(schema.get("description", ""), quote=False)
    rows, below = [], []
    for name, field in kind.model_fields.items():
        key = field.alias or name
        given = schema["properties"][key]
        parts = re.findall(r'"\$ref": "#/\$defs/(\w+)"', json.dumps(given))
        below += [(part, f"{keys}.{key}" if keys else key) for part in parts]
        if parts and not keys:
            continue
        default = field.get_default(call_default_factory=True, validated_data={})
        value = json.dumps(default, default=str).replace('"', "")
        shown = "required" if field.is_required() else f"`{value}`"
        rows.append([f"`{key}`", escape(told.get(name, ""), quote=False), typed(given), shown])
    if rows:
        yield from table("key|meaning|type|default", rows)
    for part, key in below:
        yield from sections(getattr(sys.modules[kind.__module__], part), key, level + bool(keys))


def _params(root: Path) -> Iterator[str]:
    yield "# Keys of params.yaml\n"
    yield "Every model has a section of its own, `models.<package>`. A key that nothing reads is an error."
    yield "Made from `src/loop/core/params.py` and the folders in `src/models`."
    yield from sections(params.Model, "", 2)
    yield "\n## The models' own keys\n\nEach model's folder types these sections itself."
    for name in params.read(root):
        folder = models.ModelFolder(root, name)
        for module, key in models.TYPED.items():
            kind = getattr(getattr(folder, module), "Params", None)
            if kind and kind.model_fields:
                yield from sections(kind, f"{name}.{key}")


def _commands() -> Iterator[str]:
    yield "# Commands\n"
    yield "A step of a workflow is one of these commands, so a person can run the commands that CI runs."
    context = click.Context(cli, info_name="./loop", max_content_width=100)
    for title, names in SECTIONS.items():
        yield f"\n## {title}"
        for name in names:
            if command := cli.get_command(context, name):
                yield from _command(command, click.Context(command, context, name))


def _command(command: click.Command, context: click.Context) -> Iterator[str]:
    """The heading and the help of a command, and of the commands in it."""
    title = context.command_path.removeprefix("./loop ")
    yield f"\n### `{title}`\n\n```text\n{command.get_help(context)}\n```"
    if isinstance(command, click.Group):
        for name, inside in command.commands.items():
            yield from _command(inside, click.Context(inside, context, name))


def _metrics(root: Path) -> Iterator[str]:
    yield "# Metrics\n\n## Of a server\n\nScraped from each pod at `/metrics`."
    served = Metrics("model", "version", p99_ms=1)
    served.failed("model")
    served.answered("/predict", 200)
    rows = []
    for family in served.registry.collect():
        labels = sorted({label for sample in family.samples for label in sample.labels} - {"le"})
        name = f"{family.name}_total" if family.type == "counter" else family.name
        rows.append(_metric(name, family.documentation, family.type, labels))
    yield from table("name|meaning|kind|labels", sorted(rows))
    yield "## Of the monitor\n\nPushed to the Pushgateway after each check, as job `monitor`."
    rows = [_metric(name, text, "gauge", ["model", *by]) for name, (text, *by) in GAUGES.items()]
    rows.append(_metric(f"{RETRAININGS[0]}_total", RETRAININGS[1], "counter", ["model"]))
    yield from table("name|meaning|kind|labels", sorted(rows))
    yield "## Recorded by Prometheus\n\nThe rules in `" + RULES + "` compute these."
    for rule in _rules(root, "record"):
        yield f"\n### `{rule['record']}`\n\n```promql\n{rule['expr']}\n```"


def _metric(name: str, text: str, kind: str, labels: list[str]) -> list[str]:
    """A row of the tables of metrics."""
    return [f"`{name}`", escape(text, quote=False), kind, ", ".join(f"`{label}`" for label in labels)]


def _rules(root: Path, kind: str) -> list[dict[str, Any]]:
    spec = YAML(typ="safe").load(root / RULES)["spec"]
    return [rule for group in spec["groups"] for rule in group["rules"] if kind in rule]


def _alerts(root: Path) -> Iterator[str]:
    yield "# Alerts\n"
    yield "`critical` wakes a person, `warning` waits for the morning. Only production raises alerts."
    yield f"Made from `{RULES}`."
    for rule in _rules(root, "alert"):
        runbook = PurePosixPath("..") / rule["annotations"]["runbook"]
        yield f"\n## {rule['alert']}\n\n`{rule['annotations']['summary']}`\n"
        yield f"{rule['labels']['severity']}, after {rule.get('for', '0m')}: [runbook]({runbook})\n"
        yield f"```promql\n{rule['expr']}\n```"


def _exits() -> Iterator[str]:
    yield "# Exit codes\n\nEvery command of `./loop` ends with one of these."
    yield from table("code|name|meaning", ([str(int(code)), f"`{code.name}`", code.meaning] for code in Exit))
