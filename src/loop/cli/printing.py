"""Prints a command's result: as text for people, or with --json as one JSON document for scripts."""

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Any

import click

from loop.core.text import one_line

SHOWN = "loop.shown"  # in click's context, with --json: the results to print when the command ends


class Printing(click.Command):
    """A command that prints a result, and so has the option --json."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        described = "Print the result as one JSON document."
        self.params.append(click.Option(["--json", "as_json"], is_flag=True, help=described))

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


def show(result: dict[str, Any], text: Callable[[], object]) -> None:
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


def document(result: dict[str, Any]) -> str:
    """Return a result as JSON, with `##[` escaped, because GitHub reads it in a log as a workflow command."""
    return json.dumps(result, indent=2, ensure_ascii=False, default=vars).replace("##[", "#\\u0023[")


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
