"""Draws curves as inline SVG: points scaled to a box, with colours from the page's style sheet."""

from collections.abc import Mapping
from dataclasses import dataclass

from loop.core.models import VALUED
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


def curves(evidence: Evidence) -> list[Chart]:
    """Return a chart for each of the task's curves, with a line for each model that scored the test rows."""
    valued = evidence.task in VALUED
    return [_chart(CURVES[name], drawn, valued=valued) for name, drawn in evidence.curves().items()]


def _chart(curve: Curve, drawn: dict[str, Points], *, valued: bool) -> Chart:
    """Return a chart over 0 to 1 or, if labels are numbers, over the range of the points.

    With a diagonal, both axes share one range.
    """
    sides = [(0.0, 1.0)] * 2
    if valued:
        across, up = (tuple(p[axis] for points in drawn.values() for p in points) for axis in "xy")
        sides = [across + up] * 2 if curve.diagonal else [across, up]
    (left, right), (low, high) = ends = [(min(side), max(side)) for side in sides]
    ticks = [tuple(f"{at:.3g}" for at in (least, (least + most) / 2, most)) for least, most in ends]
    wide, tall = SIDE / (right - left or 1), SIDE / (high - low or 1)
    lines = {  # the y axis of SVG points down
        who: " ".join(f"{wide * (p['x'] - left):.1f},{tall * (high - p['y']):.1f}" for p in points)
        for who, points in drawn.items()
    }
    return Chart(curve, lines, *ticks)
