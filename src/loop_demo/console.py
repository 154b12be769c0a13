"""Progress that a person can follow: chapters and steps, each with the time since the start."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import rich.console
from rich.markdown import Markdown
from rich.table import Table
from rich.text import Text


class Console:
    """Prints to the terminal; `took` keeps each chapter's seconds for the closing table."""

    def __init__(self) -> None:
        self.begin = time.monotonic()
        self.took: dict[str, float] = {}
        self.rich = rich.console.Console(highlight=False)

    @contextmanager
    def chapter(self, title: str) -> Iterator[None]:
        """A headline, and how long what is under it took."""
        self.rich.rule(f"[bold]{title}", align="left")
        began = time.monotonic()
        yield
        self.took[title] = time.monotonic() - began
        self.step(f"[green]done[/] in {self.took[title]:.0f} s")

    def step(self, text: str) -> None:
        """One thing that happened."""
        self.rich.print(f"[cyan]{self._clock()}[/] {text}")

    def line(self, text: str) -> None:
        """A line that a command printed, as it is."""
        self.rich.print(f"[dim]{self._clock()}[/]   ", end="")
        self.rich.print(text, markup=False, style="dim")

    def markdown(self, text: str) -> None:
        """Markdown, as on a pull request."""
        self.rich.print(Markdown(text))

    def print(self, text: str) -> None:
        """What a command printed, colours and all."""
        self.rich.print(Text.from_ansi(text), soft_wrap=True)

    def metrics(self, found: Mapping[str, Any]) -> None:
        """What a model reached on its test window."""
        table = Table("metric", "test window")
        for name, value in found.items():
            if isinstance(value, int | float):
                table.add_row(name, f"{value:,}" if isinstance(value, int) else f"{value:.4f}")
        self.rich.print(table)

    def beside_published(
        self, published: Mapping[str, Mapping[str, float]], metrics: Mapping[str, float]
    ) -> None:
        """The test window's metrics, under those that others have published for the same rows."""
        names = list(dict.fromkeys(name for values in published.values() for name in values))
        table = Table("model", *(name.replace("_", " ") for name in names))
        for model, values in published.items():
            table.add_row(model, *(f"{values[name]:.3f}" for name in names))
        table.add_row("[bold]this one", *(f"[bold]{metrics[name]:.4f}" for name in names))
        self.rich.print(table)

    def times(self) -> None:
        """The closing table: what each chapter took."""
        table = Table("chapter", "seconds", box=None)
        for title, seconds in self.took.items():
            table.add_row(title, f"{seconds:.0f}")
        table.add_row("[bold]in all", f"[bold]{time.monotonic() - self.begin:.0f}")
        self.rich.print(table)

    def _clock(self) -> str:
        seconds = int(time.monotonic() - self.begin)
        return f"{seconds // 60:02d}:{seconds % 60:02d}"
