"""Draws charts in Mermaid, which GitHub renders in comments and job summaries.

A comment can show an image only from a public URL: the API has no upload, data: URLs and inline SVG are
removed, and artifacts need a login. Mermaid charts are text, so they need no storage and work for pull
requests from forks, too.
"""

import json
from collections.abc import Mapping

import numpy as np

from loop.pipeline.plots import Curve, Points

POINTS = 41  # number of points of a line
# The marks are for the chart's title, which serves as legend because Mermaid's xychart has none.
COLOURS = {"#2f81f7": "🟦", "#f0883e": "🟧", "#8b949e": "⬜", "#a371f7": "🟪"}
BLOCKS = 20  # length of the longest text bar in characters


def lines(curve: Curve, drawn: Mapping[str, Points]) -> str:
    """Return a Mermaid line chart of each model's curve; empty if the points have only one x.

    Mermaid gives the points of a line evenly spaced places on the x axis, so each curve is interpolated
    there. The y axis covers at least 0 to 1.
    """
    ordered = {who: sorted((point["x"], point["y"]) for point in points) for who, points in drawn.items()}
    low = min(points[0][0] for points in ordered.values())
    high = max(points[-1][0] for points in ordered.values())
    if low == high:
        return ""
    grid = np.linspace(low, high, POINTS)
    values = {
        who: np.interp(grid, [x for x, _ in points], [y for _, y in points]).tolist()
        for who, points in ordered.items()
    }
    if curve.diagonal:
        values["diagonal"] = grid.tolist()
    legend = " ".join(f"{mark} {name}" for mark, name in zip(COLOURS.values(), values, strict=False))
    theme = {"theme": "base", "themeVariables": {"xyChart": {"plotColorPalette": ", ".join(COLOURS)}}}
    size = {"xyChart": {"width": 460, "height": 320}}
    body = "\n".join(f"    line [{', '.join(map(_number, line))}]" for line in values.values())
    every = [value for line in values.values() for value in line]
    return (
        f"**{curve.title}**: {legend}\n\n```mermaid\n%%{{init: {json.dumps({**theme, **size})}}}%%\n"
        f'xychart-beta\n    x-axis "{curve.x}" {_number(low)} --> {_number(high)}\n'
        f'    y-axis "{curve.y}" {_number(min(0, *every))} --> {_number(max(1, *every))}\n{body}\n```'
    )


def bar(value: float, most: float) -> str:
    """Return a text bar for `value`, where `most` has full length."""
    return "█" * round(BLOCKS * max(value, 0) / most) if most > 0 else ""


def _number(value: float) -> str:
    """Return a number with six significant digits. Mermaid does not read exponents, as in 1e+06."""
    return np.format_float_positional(value, precision=6, fractional=False, trim="-")
