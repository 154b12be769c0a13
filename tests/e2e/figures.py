"""What is measured: each figure with the limit that it must keep, told at the end and kept as JSON."""

from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from loop.core.files import write_json


@dataclass(frozen=True)
class Figure:
    """One number; `limit` in words, `None` where a figure is only told."""

    what: str
    value: float
    unit: str
    limit: str | None
    kept: bool


@dataclass
class Figures:
    """All figures so far; `path` holds them after each."""

    path: Path
    all: list[Figure] = field(default_factory=list)

    def tell(self, what: str, value: float, unit: str) -> None:
        """A figure without a limit."""
        self._add(Figure(what, value, unit, None, kept=True))

    def most(self, what: str, value: float, unit: str, limit: float) -> None:
        """A figure that must not be over `limit`; fails the test where it is."""
        self._judged(what, value, unit, f"<= {limit:g}", kept=value <= limit)

    def least(self, what: str, value: float, unit: str, limit: float) -> None:
        """A figure that must not be under `limit`."""
        self._judged(what, value, unit, f">= {limit:g}", kept=value >= limit)

    def within(self, what: str, value: float, unit: str, limit: tuple[float, float]) -> None:
        """A figure that must lie between two, both included."""
        low, high = limit
        self._judged(what, value, unit, f"{low:g} to {high:g}", kept=low <= value <= high)

    def table(self, console: Console) -> None:
        """All of them, as a table."""
        table = Table("what", "measured", "limit", "", title="figures")
        for figure in self.all:
            sign = "" if figure.limit is None else "[green]kept[/]" if figure.kept else "[red]missed[/]"
            table.add_row(figure.what, f"{figure.value:,.4g} {figure.unit}", figure.limit or "", sign)
        console.print(table)

    def _judged(self, what: str, value: float, unit: str, limit: str, *, kept: bool) -> None:
        self._add(Figure(what, value, unit, limit, kept=kept))
        assert kept, f"{what}: {value:g} {unit}, wanted {limit}"

    def _add(self, figure: Figure) -> None:
        self.all.append(figure)
        write_json(self.path, [asdict(figure) for figure in self.all])
