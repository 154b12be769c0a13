"""Measures calibration: whether of all rows with a score of 0.3, three in ten are of class 1."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
BINS = 10


class Curve(NamedTuple):
    """For each bin that contains rows: mean score, share of positives, and number of rows."""

    predicted: Floats
    observed: Floats
    rows: NDArray[Any]


def curve(labels: NDArray[np.int64], scores: Floats, counts: NDArray[np.int64] | None = None) -> Curve:
    """Return the reliability curve over ten equal bins of [0, 1]. `counts` (n,) weights the rows."""
    position = np.clip((scores * BINS).astype(np.int64), 0, BINS - 1)
    each = np.ones(len(scores)) if counts is None else counts.astype(np.float64)
    rows, predicted, observed = (
        np.bincount(position, weights=weights, minlength=BINS)
        for weights in (each, each * scores, each * labels)
    )
    filled = rows > 0
    return Curve(predicted[filled] / rows[filled], observed[filled] / rows[filled], rows[filled])


def expected_error(
    labels: NDArray[np.int64], scores: Floats, counts: NDArray[np.int64] | None = None
) -> float:
    """Return the expected calibration error: |share of positives - mean score| per bin, weighted by rows.

    Naeini et al. 2015.
    """
    predicted, observed, rows = curve(labels, scores, counts)
    return float(np.abs(observed - predicted) @ rows / rows.sum())
