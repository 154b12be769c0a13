"""Writes what MkDocs builds the site from: the repository's pages, and a reference made from the code.

`make docs` runs it. The pages keep the repository's layout, so that each link works on GitHub and on the site.
"""

import ast
import inspect
import io
import json
import re
import shutil
import sys
import tokenize
from collections.abc import Iterator
from html import escape
from pathlib import Path, PurePosixPath
from typing import Any

import click
from pydantic import BaseModel
from ruamel.yaml import YAML

from loop.cli import COMMANDS, cli
from loop.core import models, params, repository
from loop.core.errors import Exit
from loop.core.files import write_text
from loop.core.names import public
from loop.monitoring import push
from loop.monitoring import report as monitored
from loop.runtime.metrics import Metrics

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PAGES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "docs/**/*")
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)#\s]+)")
RULES = "kustomize/platform/monitoring/rules.yaml"
TYPES = {"integer": "whole number", "number": "number", "string": "text", "boolean": "`true` or `false`",
         "null": "`null`", "object": "mapping"}  # fmt: skip
BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def main(source: Path) -> None:
    """Replace the folder `source` by the site's pages and its mkdocs.yml."""
    shutil.rmtree(source, ignore_errors=True)
    pages = source / "pages"
    files = [path for glob in PAGES for path in ROOT.glob(glob) if path.is_file() and HERE not in path.parents]
    names = {path.relative_to(ROOT).as_posix() for path in files}
    for path in files:
        to = pages / path.relative_to(ROOT)
        to.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".md":
            write_text(to, separated(linked(path.read_text(encoding="utf-8"), path, names)))
        else:
            shutil.copy(path, to)
    for name, text in reference().items():
        write_text(pages / "reference" / name, text)
    for path in [*HERE.glob("*.css"), *HERE.glob("*.js")]:
        shutil.copy(path, pages)
    yaml = YAML()
    config = yaml.load(HERE / "mkdocs.yml")
    config["nav"] = resolved(config["nav"], pages, set())
    with (source / "mkdocs.yml").open("w", encoding="utf-8") as file:
        yaml.dump(config, file)


def linked(text: str, page: Path, pages: set[str]) -> str:
    """A page whose links to files that the site lacks lead to the repository instead."""
    here = repository.read(ROOT)
    url = f"{here.server}/{here.slug}/blob/HEAD"

    def to(link: re.Match[str]) -> str:
        path = (page.parent / link[1]).resolve()
        name = path.relative_to(ROOT).as_posix()
        return link[1] if name in pages or not path.exists() else f"{url}/{name}"

    return LINK.sub(to, text)


def separated(text: str) -> str:
    """A page with a blank line before each list, table and fence, which GitHub does without and MkDocs needs."""
    lines: list[str] = []
    fenced = False
    for line in text.splitlines():
        begins = re.match(r"([-*] |\d+\. |\||```)", line)
        within = lines and re.match(r"([-*] |\d+\. |\||\s|$)", lines[-1])
        if begins and not within and not fenced:
            lines.append("")
        fenced ^= line.lstrip().startswith("```")
        lines.append(line)
    return "\n".join(lines) + "\n"


def resolved(entries: list[Any], pages: Path, seen: set[str]) -> list[Any]:
    """A part of the navigation with its globs as pages, each page once; parts without pages are left out."""
    found: list[Any] = []
    for entry in entries:
        if isinstance(entry, dict):
            ((title, below),) = entry.items()
            if inside := resolved(below, pages, seen):
                found.append({title: inside})
        else:
            fits = sorted(path.relative_to(pages).as_posix() for path in pages.glob(entry))
            found += [name for name in fits if name not in seen]
            seen.update(fits)
    return found


def reference() -> dict[str, str]:
    """The pages that the code gives, by file name."""
    return {
        "params.md": "\n".join(_params()),
        "commands.md": "\n".join(_commands()),
        "metrics.md": "\n".join(_metrics()),
        "alerts.md": "\n".join(_alerts()),
        "exit-codes.md": "\n".join(_exits()),
    }


def comments(kind: type) -> dict[str, str]:
    """The comment of each attribute of a class: on its last line, or on the lines above it."""
    source = inspect.getsource(kind)
    lines = source.splitlines()
    found = {
        token.start[0]: (token.string.lstrip("# "), not lines[token.start[0] - 1][: token.start[1]].strip())
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    texts = {}
    (body,) = (node.body for node in ast.parse(source).body if isinstance(node, ast.ClassDef))
    for node in body:
        if isinstance(node, ast.AnnAssign | ast.Assign):
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            above, line = [], node.lineno - 1
            while found.get(line, ("", False))[1]:
                above.insert(0, found[line][0])
                line -= 1
            beside = [found[node.end_lineno][0]] if node.end_lineno in found else []
            texts[ast.unparse(target)] = " ".join([*above, *beside])
    return texts


def table(head: str, rows: Iterator[list[str]]) -> Iterator[str]:
    """A Markdown table; `head` names its columns, parted by bars."""
    columns = head.split("|")
    yield from ("", f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}")
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', '&#124;').replace(chr(10), ' ') for cell in row)} |"
    yield ""


def typed(schema: dict[str, Any], known: dict[str, Any]) -> str:
    """A JSON schema in words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return typed(known[name], known) if "enum" in known[name] else "section"
    if "const" in schema or "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return " or ".join(dict.fromkeys(typed(each, known) for each in schema[several]))
    if schema.get("type") == "array":
        inside = schema["items"] if "items" in schema else schema["prefixItems"][0]
        return f"list of {typed(inside, known)}"
    if schema.get("format") in {"date", "date-time"}:
        return "date" if schema["format"] == "date" else "time"
    if isinstance(values := schema.get("additionalProperties"), dict):
        return f"mapping of names to {typed(values, known)}"
    limits = [f"{sign} {schema[key]}" for key, sign in BOUNDS.items() if key in schema]
    return " ".join([TYPES.get(schema.get("type", ""), "any value"), ", ".join(limits)]).strip()


def sections(kind: type[BaseModel], keys: str, level: int) -> Iterator[str]:
    """A heading and a table for a section of params.yaml, and for each section in it."""
    schema = kind.model_json_schema()
    known, wanted, told = schema.get("$defs", {}), schema.get("required", []), comments(kind)
    variant = f", kind `{named}`" if isinstance(named := schema["properties"].get("kind", {}).get("const"), str) else ""
    yield f"\n{'#' * level} `{keys}`{variant}\n"
    yield escape(inspect.cleandoc(kind.__doc__ or ""), quote=False)
    rows, below = [], []
    for name, field in kind.model_fields.items():
        key = field.alias or name
        parts = [part for part in _parts(field.annotation) if issubclass(part, BaseModel)]
        if parts and level == 2 and kind is params.Model:
            below += [(part, key) for part in parts]
            continue
        below += [(part, f"{keys}.{key}") for part in parts]
        default = field.get_default(call_default_factory=True, validated_data={})
        shown = "required" if key in wanted else f"`{_plain(default)}`"
        rows.append([f"`{key}`", typed(schema["properties"][key], known), shown, escape(told.get(name, ""), quote=False)])
    if rows:
        yield from table("key|type|default|meaning", iter(rows))
    for part, key in below:
        yield from sections(part, key, level + (kind is not params.Model))


def _parts(annotation: Any) -> Iterator[type]:
    """The classes that a type is made of."""
    if isinstance(annotation, type) and not getattr(annotation, "__args__", ()):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _parts(argument)


def _plain(value: Any) -> str:
    """A default as params.yaml may write it."""
    dumped = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    return json.dumps(dumped, default=str).strip('"')


def _params() -> Iterator[str]:
    yield "# Keys of params.yaml\n"
    yield "Every model has a section of its own, `models.<package>`. A key that nothing reads is an error."
    yield "Made from `src/loop/core/params.py` and the folders in `src/models`."
    yield from sections(params.Model, "models.<package>", 2)
    yield "\n## The models' own keys\n\nEach model's folder types these sections itself."
    for name in params.read(ROOT):
        folder = models.ModelFolder(ROOT, name)
        for key, module in OWN.items():
            kind = getattr(getattr(folder, module), "Params", None)
            if kind and kind.model_fields:
                yield from sections(kind, f"{name}.{key}", 3)


OWN = {"ingest.simulator": "source", "validate.suite": "expectations", "features": "features",
       "train": "estimator", "evaluate.protocol": "evaluation"}  # fmt: skip


def _commands() -> Iterator[str]:
    yield "# Commands\n"
    yield "`./loop <command>`; a step of a workflow is one of these commands. `make` alone lists the tasks."
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        assert command
        context = click.Context(command, info_name=f"./loop {name}", show_default=True)
        usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
        yield f"\n## `{name}`\n\n```sh\n{usage}\n```\n"
        yield escape(inspect.cleandoc(command.help or "").replace("\b\n", ""), quote=False)
        if options := [record for each in command.params if (record := each.get_help_record(context))]:
            yield from table("option|meaning", ([f"`{names}`", escape(text, quote=False)] for names, text in options))
    yield "\n## Tasks of `make`"
    tasks = re.findall(r"(?m)^([a-z0-9-]+):.*## (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"))
    yield from table("task|meaning", ([f"`make {name}`", escape(text, quote=False)] for name, text in sorted(tasks)))


def _metrics() -> Iterator[str]:
    yield "# Metrics\n\n## Of a server\n\nScraped from each pod at `/metrics`."
    served = Metrics("model", "version", p99_ms=1)
    served.failed("model")
    served.answered("/predict", 200)
    rows = []
    for family in served.registry.collect():
        labels = sorted({label for sample in family.samples for label in sample.labels} - {"le"})
        name = f"{family.name}_total" if family.type == "counter" else family.name
        rows.append([f"`{name}`", family.type, ", ".join(f"`{label}`" for label in labels), escape(family.documentation, quote=False)])
    yield from table("name|kind|labels|meaning", iter(sorted(rows)))
    yield "## Of the monitor\n\nPushed to the Pushgateway after each look, as job `monitor`."
    yield from table("name|kind|labels|meaning", iter(sorted(_pushed())))
    yield "## Recorded by Prometheus\n\nThe rules in `" + RULES + "` compute these."
    for rule in _rules("record"):
        yield f"\n### `{rule['record']}`\n\n```promql\n{rule['expr']}\n```"


def _pushed() -> Iterator[list[str]]:
    """The metrics that loop.monitoring.report writes, read from its calls, and the one that push adds."""
    for node in ast.walk(ast.parse(inspect.getsource(monitored))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            texts = [each.value for each in node.args if isinstance(each, ast.Constant)]
            if node.func.id in {"gauge", "gauges", "Counter"} and len(texts) > 1:
                name, text, *by = map(str, texts)
                kind = "counter" if node.func.id == "Counter" else "gauge"
                labels = ["model", *(str(keyword.arg) for keyword in node.keywords if keyword.arg != "registry"), *by]
                full = f"{name}_total" if kind == "counter" else name
                yield [f"`{full}`", kind, ", ".join(f"`{label}`" for label in labels), escape(text, quote=False)]
    yield [f"`{push.ENDS}`", "gauge", "`model`", push.HELP]


def _rules(kind: str) -> list[dict[str, Any]]:
    spec = YAML(typ="safe").load(ROOT / RULES)["spec"]
    return [rule for group in spec["groups"] for rule in group["rules"] if kind in rule]


def _alerts() -> Iterator[str]:
    yield "# Alerts\n"
    yield "`critical` wakes a person, `warning` waits for the morning. Only production raises alerts."
    yield f"Made from `{RULES}`."
    for rule in _rules("alert"):
        runbook = PurePosixPath("..") / rule["annotations"]["runbook"]
        yield f"\n## {rule['alert']}\n\n`{rule['annotations']['summary']}`\n"
        yield f"{rule['labels']['severity']}, after {rule.get('for', '0m')}: [runbook]({runbook})\n"
        yield f"```promql\n{rule['expr']}\n```"


def _exits() -> Iterator[str]:
    yield "# Exit codes\n\nEvery command of `./loop` ends with one of these."
    told = comments(Exit)
    rows = ([str(int(code)), f"`{code.name}`", getattr(code, "meaning", told.get(code.name, ""))] for code in Exit)
    yield from table("code|name|meaning", rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
