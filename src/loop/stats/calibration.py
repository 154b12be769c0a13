"""Whether a score of 0.3 means three in ten."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Curve(NamedTuple):
    """Per bin that holds rows: mean score, observed share of positives, rows."""

    predicted: Floats
    observed: Floats
    rows: NDArray[np.int64]


def curve(labels: NDArray[np.int64], scores: Floats, bins: int = 10) -> Curve:
    """The reliability curve over `bins` equally wide bins of [0, 1]."""
    position = np.clip((scores * bins).astype(np.int64), 0, bins - 1)
    rows = np.bincount(position, minlength=bins)
    filled = rows > 0
    predicted = np.bincount(position, weights=scores, minlength=bins)[filled] / rows[filled]
    observed = np.bincount(position, weights=labels, minlength=bins)[filled] / rows[filled]
    return Curve(predicted, observed, rows[filled])


def expected_error(labels: NDArray[np.int64], scores: Floats, bins: int = 10) -> float:
    """Expected calibration error: the bins' |observed - predicted|, weighted by rows (Naeini et al. 2015)."""
    predicted, observed, rows = curve(labels, scores, bins)
    return float(np.abs(observed - predicted) @ rows / rows.sum())
