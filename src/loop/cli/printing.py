"""Prints a command's result: as text for people, or with --json as one JSON document for scripts."""

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict
from typing import Any

import click

from loop.core.results import Result
from loop.core.text import one_line

FLAG = "--json"
SHOWN = "loop.shown"  # in click's context, with --json: the results to print when the command ends


class Printing(click.Command):
    """A command that prints a result of one type, and so has --json and --json-schema."""

    def __init__(self, *args: Any, result: type[Result], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.result = result
        self.params += [
            click.Option([FLAG, "as_json"], is_flag=True, help="Print the result as one JSON document."),
            click.Option(
                ["--json-schema"],
                is_flag=True,
                is_eager=True,
                expose_value=False,
                callback=self._print_schema,
                help="Print the JSON Schema of that document, which describes each field.",
            ),
        ]

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; with --json, everything but the document goes to stderr."""
        if not ctx.params.pop("as_json"):
            return super().invoke(ctx)
        ctx.meta[SHOWN] = []
        try:
            with _stdout_to_stderr():
                return super().invoke(ctx)
        finally:  # a command may have shown its result before it fails
            for result in ctx.meta[SHOWN]:
                print(document(result), flush=True)

    def _print_schema(self, ctx: click.Context, _param: click.Parameter, value: bool) -> None:
        if value and not ctx.resilient_parsing:
            from pydantic import TypeAdapter

            schema = TypeAdapter(self.result).json_schema(mode="serialization")
            click.echo(json.dumps(schema, indent=2))
            ctx.exit()


def show(result: Result, text: Callable[[], object]) -> None:
    """Print a result: with --json as one JSON document when the command ends, otherwise by `text`, now."""
    shown = click.get_current_context().meta.get(SHOWN)
    if shown is None:
        text()
    else:
        shown.append(result)


def table(columns: Sequence[str], rows: Iterable[Iterable[str]], title: str | None = None) -> None:
    """Print a table, outside of a terminal 140 characters wide."""
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    console = Console()
    if not console.is_terminal:
        console.width = 140
    made = Table(*(Column(name, overflow="fold") for name in columns), title=title)
    for row in rows:
        made.add_row(*(Text(one_line(cell)) for cell in row))  # as a string, `[/]` is a tag of Rich's
    console.print(made)


def document(result: Result) -> str:
    """Return a result as JSON, with `##[` escaped, because GitHub reads it in a log as a workflow command."""
    plain = asdict(result, dict_factory=lambda items: {name.rstrip("_"): value for name, value in items})  # type: ignore[call-overload]
    return json.dumps(plain, indent=2, ensure_ascii=False).replace("##[", "#\\u0023[")


@contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """Send to stderr what Python, and the programs that it starts, print to stdout."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
