"""Curves as inline SVG: points scaled to a box, coloured by the page's own style."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from loop.pipeline.plots import Points
from loop.review import charts
from loop.review.evidence import Evidence

SIDE = 200  # of the square that is 0..1 both ways
KNOWN = {  # a curve as dvc.yaml has it: title, x, y; and whether a diagonal helps to read it
    "roc": ("ROC", "false_positive_rate", "true_positive_rate", True),
    "precision_recall": ("Precision and recall", "recall", "precision", False),
    "calibration": ("Calibration", "predicted", "observed", True),
}

MEASURED = {
    "roc": charts.roc,
    "precision_recall": charts.precision_recall,
}  # from scores, where no plot is kept


@dataclass(frozen=True)
class Chart:
    """Lines over 0..1; each is the points of an SVG polyline, by who it is of."""

    title: str
    x: str
    y: str
    diagonal: bool
    lines: Mapping[str, str]


def curves(plots: Mapping[str, Points], evidence: Evidence) -> list[Chart]:
    """A chart for each of DVC's curves; with the champion's line where it scored the same rows."""
    found = []
    for name, (title, x, y, diagonal) in KNOWN.items():
        if points := plots.get(name):
            lines = {"this model": line([(point[x], point[y]) for point in points])}
            if rival := champion(evidence, name):
                lines["champion"] = rival
            found.append(Chart(title, x.replace("_", " "), y.replace("_", " "), diagonal, lines))
    return found


def champion(evidence: Evidence, name: str) -> str:
    """The champion's line in a chart; empty where there is none."""
    scores, measure = evidence.scores.get("champion"), MEASURED.get(name)
    if scores is None or scores.ndim > 1 or evidence.labels is None or measure is None:
        return ""
    return line(list(zip(charts.GRID.tolist(), measure(evidence.labels, scores), strict=True)))


def line(points: Sequence[tuple[float, float]]) -> str:
    """Points of 0..1 as those of a polyline in the box, up being good."""
    return " ".join(f"{SIDE * x:.1f},{SIDE * (1 - y):.1f}" for x, y in points)
