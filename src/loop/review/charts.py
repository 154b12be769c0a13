"""Charts that GitHub itself draws in a comment.

A comment shows images only from URLs that anybody can read: no upload by API, no data: URL, no inline SVG,
and an artifact is a zip behind a login. Mermaid it draws from text, in comments and summaries alike, so a
fork's pull request has them too, and nothing is stored anywhere.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loop.pipeline import plots
from loop.stats import calibration, classification

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]
GRID = np.linspace(0, 1, 41)
COLOURS = {
    "#2f81f7": "🟦",
    "#f0883e": "🟧",
    "#8b949e": "⬜",
}  # Mermaid's charts have no legend: the title is it
BLOCKS = 20  # the longest bar of text


def roc(y: Labels, scores: Floats) -> list[float]:
    """The true positive rate at evenly spaced false positive rates."""
    false_rate, true_rate = classification.roc_curve(y, scores)
    return _rounded(np.interp(GRID, false_rate, true_rate))


def precision_recall(y: Labels, scores: Floats) -> list[float]:
    """The best precision at evenly spaced recalls and above."""
    precision, recall = classification.precision_recall_curve(y, scores)
    return _rounded(np.array([precision[recall >= least].max() for least in GRID]))


def reliability(y: Labels, scores: Floats) -> tuple[list[str], list[list[float]]]:
    """Bins of scores by their mean, and per bin: the share that was positive, and the mean itself."""
    curve = calibration.curve(y, scores)
    names = [f"{mean:.2f}" for mean in curve.predicted]
    return names, [_rounded(curve.observed), _rounded(curve.predicted)]


def by_prediction(y: NDArray[Any], scores: Floats) -> tuple[list[str], list[list[float]]]:
    """Parts of the rows by their mean prediction, and for each: the mean label, and the mean itself."""
    points = plots.of_values(y, scores)["predicted"]
    names = [f"{point['x']:.4g}" for point in points]
    return names, [[point["y"] for point in points], [point["x"] for point in points]]


def lines(title: str, x: str, y: str, drawn: Mapping[str, Sequence[float]], bins: Sequence[str] = ()) -> str:
    """A chart of lines over 0..1, or over named bins, where values outside 0..1 set the height too."""
    legend = " ".join(f"{mark} {name}" for mark, name in zip(COLOURS.values(), drawn, strict=False))
    theme = {"theme": "base", "themeVariables": {"xyChart": {"plotColorPalette": ", ".join(COLOURS)}}}
    size = {"xyChart": {"width": 460, "height": 320}}
    axis = f"[{', '.join(json.dumps(name) for name in bins)}]" if bins else "0 --> 1"
    body = "\n".join(f"    line {json.dumps(list(values))}" for values in drawn.values())
    every = [value for values in drawn.values() for value in values]
    low, high = min([0, *every]), max([1, *every])
    return (
        f"**{title}**: {legend}\n\n```mermaid\n%%{{init: {json.dumps({**theme, **size})}}}%%\nxychart-beta\n"
        f'    x-axis "{x}" {axis}\n    y-axis "{y}" {low:g} --> {high:g}\n{body}\n```'
    )


def bar(value: float, most: float) -> str:
    """A bar of text."""
    return "█" * round(BLOCKS * max(value, 0) / most) if most > 0 else ""


def _rounded(values: Floats) -> list[float]:
    return [float(value) for value in np.round(values, 3)]
