"""The demo's output on the terminal: chapters and steps, each with the time since the demo began."""

import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import rich.console
from rich.markdown import Markdown
from rich.table import Table
from rich.text import Text


class Console:
    """Prints the demo's progress. `took` records each chapter's seconds for the table at the end."""

    def __init__(self) -> None:
        self.begin = time.monotonic()
        self.took: dict[str, float] = {}
        self.rich = rich.console.Console(highlight=False)

    @contextmanager
    def chapter(self, title: str) -> Iterator[None]:
        """Print a chapter's headline, and when the chapter ends, the seconds that it took."""
        self.rich.rule(f"[bold]{title}", align="left")
        began = time.monotonic()
        yield
        self.took[title] = time.monotonic() - began
        self.step(f"[green]done[/] in {self.took[title]:.0f} s")

    def step(self, text: str) -> None:
        """Print one event of the demo, with the time since the demo began."""
        self.rich.print(f"[cyan]{self._clock()}[/] {text}")

    def line(self, text: str) -> None:
        """Print a line of a command's output unchanged; square brackets in it are not read as markup."""
        self.rich.print(Text(f"{self._clock()}   {text}"), style="dim")

    def markdown(self, text: str) -> None:
        """Print Markdown as a pull request would show it, except for charts, which only GitHub draws."""
        text = re.sub(r"(?s)```mermaid\n.*?\n```", "*(a chart, which GitHub draws)*", text)
        self.rich.print(Markdown(text))

    def table(self, columns: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
        """Print a table."""
        table = Table(*columns)
        for row in rows:
            table.add_row(*row)
        self.rich.print(table)

    def metrics(self, found: dict[str, Any]) -> None:
        """Print a table of a model's metrics on its test window."""
        numbers = {name: value for name, value in found.items() if isinstance(value, int | float)}
        shown = ((n, f"{v:,}" if isinstance(v, int) else f"{v:.4f}") for n, v in numbers.items())
        self.table(("metric", "test window"), shown)

    def beside_published(self, published: dict[str, dict[str, float]], metrics: dict[str, float]) -> None:
        """Print a table of the metrics that others have published, and of the demo model on the same rows."""
        names = list(dict.fromkeys(name for values in published.values() for name in values))
        rows = [[model, *(f"{values[name]:.3f}" for name in names)] for model, values in published.items()]
        rows.append(["[bold]this model", *(f"[bold]{metrics[name]:.4f}" for name in names)])
        self.table(("model", *(name.replace("_", " ") for name in names)), rows)

    def times(self) -> None:
        """Print the table at the demo's end: the seconds that each chapter took, and their sum."""
        rows = [[title, f"{seconds:.0f}"] for title, seconds in self.took.items()]
        rows.append(["[bold]total", f"[bold]{time.monotonic() - self.begin:.0f}"])
        self.table(("chapter", "seconds"), rows)

    def _clock(self) -> str:
        seconds = int(time.monotonic() - self.begin)
        return f"{seconds // 60:02d}:{seconds % 60:02d}"
