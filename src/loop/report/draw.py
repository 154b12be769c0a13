"""Draws curves as inline SVG: points scaled to a box, with colours from the page's style sheet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from loop.core.models import VALUED
from loop.pipeline.plots import CURVES, Points
from loop.review import charts
from loop.review.evidence import Evidence

SIDE = 200  # side length of a chart in SVG units; it covers 0 to 1 in both directions
MEASURED = {
    "roc": charts.roc,
    "precision_recall": charts.precision_recall,
}  # functions that compute a curve from scores, for a model whose plots were not kept


@dataclass(frozen=True)
class Chart:
    """A chart of SVG polylines over the range that `ticks` name; `lines` maps each model to its points."""

    title: str
    x: str
    y: str
    diagonal: bool
    lines: Mapping[str, str]
    across: tuple[str, str, str] = ("0", "0.5", "1")  # labels at the left, in the middle and at the right
    up: tuple[str, str, str] = ("0", "0.5", "1")


def curves(plots: Mapping[str, Points], evidence: Evidence) -> list[Chart]:
    """Return a chart for each of DVC's curves, with the champion's line if it scored the same rows."""
    found = []
    for name, (title, x, y, diagonal) in CURVES.items():
        if points := plots.get(name):
            pairs = [(point["x"], point["y"]) for point in points]
            if evidence.task in VALUED:
                found.append(_of_values(title, x, y, pairs, diagonal=diagonal))
                continue
            lines = {"this model": line(pairs)}
            if rival := champion(evidence, name):
                lines["champion"] = rival
            found.append(Chart(title, x, y, diagonal, lines))
    return found


def _of_values(title: str, x: str, y: str, pairs: list[tuple[float, float]], *, diagonal: bool) -> Chart:
    """Return a chart scaled to the values' ranges; with a diagonal, both axes share one range."""
    sides = [list(side) for side in zip(*pairs, strict=True)]
    both = [[*sides[0], *sides[1]]] * 2 if diagonal else sides
    (left, right), (low, high) = ((min(side), max(side)) for side in both)
    scaled = [((a - left) / (right - left or 1), (b - low) / (high - low or 1)) for a, b in pairs]
    ticks = [tuple(f"{at:.3g}" for at in (first, (first + last) / 2, last))
             for first, last in ((left, right), (low, high))]  # fmt: skip
    return Chart(title, x, y, diagonal, {"this model": line(scaled)}, *ticks)  # type: ignore[arg-type]


def champion(evidence: Evidence, name: str) -> str:
    """Return the points of the champion's line in a chart; empty if its scores are not known."""
    scores, measure = evidence.scores.get("champion"), MEASURED.get(name)
    if scores is None or scores.ndim > 1 or evidence.labels is None or measure is None:
        return ""
    return line(list(zip(charts.GRID.tolist(), measure(evidence.labels, scores), strict=True)))


def line(points: Sequence[tuple[float, float]]) -> str:
    """Return points from 0 to 1 as the `points` of an SVG polyline, whose y axis points down."""
    return " ".join(f"{SIDE * x:.1f},{SIDE * (1 - y):.1f}" for x, y in points)
