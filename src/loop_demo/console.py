"""The demo's output on the terminal: chapters and steps, each with the time since the demo began."""

import re
import time
from collections.abc import Iterator
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
        self.rich.print(f"[dim]{self._clock()}[/]   ", end="")
        self.rich.print(text, markup=False, style="dim")

    def markdown(self, text: str) -> None:
        """Print Markdown as a pull request would show it, except for charts, which only GitHub draws."""
        text = re.sub(r"(?s)```mermaid\n.*?\n```", "*(a chart, which GitHub draws)*", text)
        self.rich.print(Markdown(text))

    def print(self, text: str) -> None:
        """Print a command's whole output and keep its colours."""
        self.rich.print(Text.from_ansi(text), soft_wrap=True)

    def metrics(self, found: dict[str, Any]) -> None:
        """Print a table of a model's metrics on its test window."""
        table = Table("metric", "test window")
        for name, value in found.items():
            if isinstance(value, int | float):
                table.add_row(name, f"{value:,}" if isinstance(value, int) else f"{value:.4f}")
        self.rich.print(table)

    def beside_published(self, published: dict[str, dict[str, float]], metrics: dict[str, float]) -> None:
        """Print a table of the metrics that others have published, and of the demo model on the same rows."""
        names = list(dict.fromkeys(name for values in published.values() for name in values))
        table = Table("model", *(name.replace("_", " ") for name in names))
        for model, values in published.items():
            table.add_row(model, *(f"{values[name]:.3f}" for name in names))
        table.add_row("[bold]this model", *(f"[bold]{metrics[name]:.4f}" for name in names))
        self.rich.print(table)

    def times(self) -> None:
        """Print the table at the demo's end: the seconds that each chapter took, and their sum."""
        table = Table("chapter", "seconds", box=None)
        for title, seconds in self.took.items():
            table.add_row(title, f"{seconds:.0f}")
        table.add_row("[bold]total", f"[bold]{time.monotonic() - self.begin:.0f}")
        self.rich.print(table)

    def _clock(self) -> str:
        seconds = int(time.monotonic() - self.begin)
        return f"{seconds // 60:02d}:{seconds % 60:02d}"
