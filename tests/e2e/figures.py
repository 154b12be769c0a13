"""The figures that the e2e tests measure, each with its limit, printed at the end and saved as JSON."""

from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from loop.core.files import write_json


@dataclass(frozen=True)
class Figure:
    """One number. `limit` is in words, or None if the figure is only recorded."""

    what: str
    value: float
    unit: str
    limit: str | None
    kept: bool


@dataclass
class Figures:
    """All figures so far. Each new figure is saved in `path` at once."""

    path: Path
    all: list[Figure] = field(default_factory=list)

    def record(self, what: str, value: float, unit: str) -> None:
        """Record a figure without a limit."""
        self._add(Figure(what, value, unit, None, kept=True))

    def at_most(self, what: str, value: float, unit: str, limit: float) -> None:
        """Record a figure, and fail the test if it is above `limit`."""
        self._judged(what, value, unit, f"<= {limit:g}", kept=value <= limit)

    def at_least(self, what: str, value: float, unit: str, limit: float) -> None:
        """Record a figure, and fail the test if it is below `limit`."""
        self._judged(what, value, unit, f">= {limit:g}", kept=value >= limit)

    def within(self, what: str, value: float, unit: str, limit: tuple[float, float]) -> None:
        """Record a figure, and fail the test if it is outside the two limits, which are included."""
        low, high = limit
        self._judged(what, value, unit, f"{low:g} to {high:g}", kept=low <= value <= high)

    def table(self, console: Console) -> None:
        """Print all figures as a table."""
        table = Table("what", "measured", "limit", "", title="figures")
        for figure in self.all:
            sign = "" if figure.limit is None else "[green]kept[/]" if figure.kept else "[red]missed[/]"
            table.add_row(figure.what, f"{figure.value:,.4g} {figure.unit}", figure.limit or "", sign)
        console.print(table)

    def _judged(self, what: str, value: float, unit: str, limit: str, *, kept: bool) -> None:
        self._add(Figure(what, value, unit, limit, kept=kept))
        assert kept, f"{what}: {value:g} {unit}, but the limit is {limit}"

    def _add(self, figure: Figure) -> None:
        self.all.append(figure)
        write_json(self.path, [asdict(figure) for figure in self.all])
