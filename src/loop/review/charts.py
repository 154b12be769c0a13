"""Draws charts in Mermaid, which GitHub renders in comments and job summaries.

A comment can show an image only from a public URL: the API has no upload, data: URLs and inline SVG are
removed, and artifacts need a login. Mermaid charts are text, so they need no storage and work for pull
requests from forks, too.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loop.pipeline import plots
from loop.stats import curves
from loop.stats.curves import Floats, Labels

GRID = np.linspace(0, 1, 41)
# The marks are for the chart's title, which serves as legend because Mermaid's xychart has none.
COLOURS = {"#2f81f7": "🟦", "#f0883e": "🟧", "#8b949e": "⬜"}
BLOCKS = 20  # length of the longest text bar in characters


def roc(y: Labels, scores: Floats) -> list[float]:
    """Return the true positive rate at evenly spaced false positive rates."""
    false_rate, true_rate = curves.roc(y, scores)
    return [float(rate) for rate in np.interp(GRID, false_rate, true_rate)]


def precision_recall(y: Labels, scores: Floats) -> list[float]:
    """Return the best precision at or above each of evenly spaced recalls."""
    precision, recall = curves.precision_recall(y, scores)
    return [float(precision[recall >= least].max()) for least in GRID]


def reliability(y: Labels, scores: Floats) -> tuple[list[str], list[list[float]]]:
    """Return a calibration chart: mean score per bin (x axis), and the lines of observed and mean score."""
    curve = curves.calibration(y, scores)
    names = [f"{mean:.2f}" for mean in curve.predicted]
    return names, [curve.observed.tolist(), curve.predicted.tolist()]


def by_prediction(y: NDArray[Any], scores: Floats) -> tuple[tuple[float, float], list[list[float]]]:
    """Return a chart of labels by prediction: the x axis, and the lines of labels and predictions.

    Both are interpolated at evenly spaced predictions, because 20 names of bins would overlap on the axis.
    """
    points = plots.of_values(y, scores)["predicted"]
    predicted, labels = ([point[axis] for point in points] for axis in "xy")
    low, high = predicted[0], predicted[-1]
    grid = low + GRID * (high - low)
    return (low, high), [np.interp(grid, predicted, labels).tolist(), grid.tolist()]


def lines(
    title: str,
    x: str,
    y: str,
    drawn: Mapping[str, Sequence[float]],
    over: tuple[float, float] | list[str] = (0, 1),
) -> str:
    """Return a Mermaid line chart over a range or over named bins; the y axis covers at least 0 to 1."""
    legend = " ".join(f"{mark} {name}" for mark, name in zip(COLOURS.values(), drawn, strict=False))
    theme = {"theme": "base", "themeVariables": {"xyChart": {"plotColorPalette": ", ".join(COLOURS)}}}
    size = {"xyChart": {"width": 460, "height": 320}}
    axis = _range(*over) if isinstance(over, tuple) else json.dumps(over)
    body = "\n".join(f"    line [{', '.join(map(_number, values))}]" for values in drawn.values())
    every = [value for values in drawn.values() for value in values]
    covered = _range(min([0, *every]), max([1, *every]))
    return (
        f"**{title}**: {legend}\n\n```mermaid\n%%{{init: {json.dumps({**theme, **size})}}}%%\nxychart-beta\n"
        f'    x-axis "{x}" {axis}\n    y-axis "{y}" {covered}\n{body}\n```'
    )


def bar(value: float, most: float) -> str:
    """Return a text bar for `value`, where `most` has full length."""
    return "█" * round(BLOCKS * max(value, 0) / most) if most > 0 else ""


def _number(value: float) -> str:
    """Return a number with six significant digits. Mermaid does not read exponents, as in 1e+06."""
    return np.format_float_positional(value, precision=6, fractional=False, trim="-")


def _range(low: float, high: float) -> str:
    return f"{_number(low)} --> {_number(high)}"
