"""Curves as inline SVG: points scaled to a box, coloured by the page's own style."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from loop.pipeline.plots import POINTS, Points
from loop.review import charts
from loop.review.evidence import Evidence

SIDE = 200  # of the square that is 0..1 both ways
KNOWN = {  # a plot of the evaluate stage: its title, and the straight line that it is read against
    "roc": ("ROC", "rising"),
    "precision_recall": ("Precision and recall", ""),
    "calibration": ("Calibration", "rising"),
}


@dataclass(frozen=True)
class Chart:
    """Lines over 0..1; each is the points of an SVG polyline, by who it is of."""

    title: str
    x: str
    y: str
    against: str
    lines: Mapping[str, str]


def curves(plots: Mapping[str, Points], evidence: Evidence) -> list[Chart]:
    """A chart for each of DVC's curves; with the champion's line where it scored the same rows."""
    found = []
    for name, (title, against) in KNOWN.items():
        if points := plots.get(name):
            x, y = points[0]
            lines = {"this model": line([(point[x], point[y]) for point in points])}
            if rival := champion(evidence, name):
                lines["champion"] = rival
            found.append(Chart(title, x.replace("_", " "), y.replace("_", " "), against, lines))
    return found


def champion(evidence: Evidence, name: str) -> str:
    """The champion's line in a chart; empty where there is none."""
    scores, measured = evidence.scores.get("champion"), {"roc": charts.roc, "precision_recall": charts.precision_recall}
    if scores is None or scores.ndim > 1 or evidence.labels is None or name not in measured:
        return ""
    return line(list(zip(charts.GRID.tolist(), measured[name](evidence.labels, scores), strict=True)))


def line(points: Sequence[tuple[float, float]]) -> str:
    """Points of 0..1 as those of a polyline in the box, up being good."""
    kept = points[:: max(1, len(points) // (POINTS // 2))] + points[-1:] if len(points) > POINTS // 2 else points
    return " ".join(f"{SIDE * x:.1f},{SIDE * (1 - y):.1f}" for x, y in kept)
