"""Draws curves as inline SVG: points scaled to a box, with colours from the page's style sheet."""

from collections.abc import Mapping
from dataclasses import dataclass

from loop.core.models import VALUED
from loop.pipeline import plots
from loop.pipeline.plots import CURVES, Curve, Points
from loop.review.evidence import Evidence

SIDE = 200  # side length of a chart in SVG units


@dataclass(frozen=True)
class Chart:
    """A curve as SVG polylines over the range that the ticks name; `lines` maps each model to its points."""

    curve: Curve
    lines: Mapping[str, str]
    across: tuple[str, ...]  # labels at the left, in the middle and at the right
    up: tuple[str, ...]


def curves(ours: Mapping[str, Points], evidence: Evidence) -> list[Chart]:
    """Return a chart for each of DVC's curves, with the champion's line if it scored the same rows."""
    champion = evidence.scored.get("champion")
    theirs = plots.of(evidence.task, champion) if champion else {}
    found = []
    for name, curve in CURVES.items():
        if points := ours.get(name):
            lines = {"this model": points, "champion": theirs.get(name, [])}
            drawn = {who: [(p["x"], p["y"]) for p in points] for who, points in lines.items() if points}
            found.append(_chart(curve, drawn, valued=evidence.task in VALUED))
    return found


def _chart(curve: Curve, drawn: dict[str, list[tuple[float, float]]], *, valued: bool) -> Chart:
    """Return a chart over 0 to 1 or, if labels are numbers, over the range of the points.

    With a diagonal, both axes share one range.
    """
    sides = [(0.0, 1.0)] * 2
    if valued:
        across, up = zip(*(point for points in drawn.values() for point in points), strict=True)
        sides = [across + up] * 2 if curve.diagonal else [across, up]
    (left, right), (low, high) = ends = [(min(side), max(side)) for side in sides]
    ticks = [tuple(f"{at:.3g}" for at in (least, (least + most) / 2, most)) for least, most in ends]
    wide, tall = SIDE / (right - left or 1), SIDE / (high - low or 1)
    lines = {  # the y axis of SVG points down
        who: " ".join(f"{wide * (x - left):.1f},{tall * (high - y):.1f}" for x, y in points)
        for who, points in drawn.items()
    }
    return Chart(curve, lines, *ticks)
