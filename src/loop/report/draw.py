"""Draws curves as inline SVG: points scaled to a box, with colours from the page's style sheet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from loop.core.models import VALUED
from loop.pipeline.plots import CURVES, Curve, Points
from loop.review import charts
from loop.review.evidence import Evidence

SIDE = 200  # side length of a chart in SVG units; it covers 0 to 1 in both directions
# functions that compute a curve from scores, for a model whose plots were not kept
MEASURED = {"roc": charts.roc, "precision_recall": charts.precision_recall}


@dataclass(frozen=True)
class Chart:
    """A curve as SVG polylines over the range that the ticks name; `lines` maps each model to its points."""

    curve: Curve
    lines: Mapping[str, str]
    across: tuple[str, ...] = ("0", "0.5", "1")  # labels at the left, in the middle and at the right
    up: tuple[str, ...] = ("0", "0.5", "1")


def curves(plots: Mapping[str, Points], evidence: Evidence) -> list[Chart]:
    """Return a chart for each of DVC's curves, with the champion's line if it scored the same rows."""
    found = []
    for name, curve in CURVES.items():
        points = [(point["x"], point["y"]) for point in plots.get(name) or ()]
        if points and evidence.task in VALUED:
            found.append(_of_values(curve, points))
        elif points:
            lines = {"this model": line(points), "champion": _champion(evidence, name)}
            found.append(Chart(curve, {who: drawn for who, drawn in lines.items() if drawn}))
    return found


def _of_values(curve: Curve, points: list[tuple[float, float]]) -> Chart:
    """Return a chart scaled to the values' ranges; with a diagonal, both axes share one range."""
    across, up = zip(*points, strict=True)
    sides = [across + up] * 2 if curve.diagonal else [across, up]
    (left, right), (low, high) = ends = [(min(side), max(side)) for side in sides]
    scaled = [((x - left) / (right - left or 1), (y - low) / (high - low or 1)) for x, y in points]
    ticks = [tuple(f"{at:.3g}" for at in (least, (least + most) / 2, most)) for least, most in ends]
    return Chart(curve, {"this model": line(scaled)}, *ticks)


def _champion(evidence: Evidence, name: str) -> str:
    """Return the points of the champion's line in a chart; empty if its scores are not known."""
    rows, measure = evidence.scored.get("champion"), MEASURED.get(name)
    if rows is None or rows.scores.ndim > 1 or measure is None:
        return ""
    return line(list(zip(charts.GRID.tolist(), measure(rows.labels, rows.scores), strict=True)))


def line(points: Sequence[tuple[float, float]]) -> str:
    """Return points from 0 to 1 as the `points` of an SVG polyline, whose y axis points down."""
    return " ".join(f"{SIDE * x:.1f},{SIDE * (1 - y):.1f}" for x, y in points)
