"""Whether a score of 0.3 means three in ten."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
BINS = 10


class Curve(NamedTuple):
    """Per bin that holds rows: mean score, observed share of positives, rows."""

    predicted: Floats
    observed: Floats
    rows: NDArray[Any]


def curve(labels: NDArray[np.int64], scores: Floats, counts: NDArray[np.int64] | None = None) -> Curve:
    """The reliability curve over ten equally wide bins of [0, 1]; `counts` says how often each row counts."""
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
    """Expected calibration error: the bins' |observed - predicted|, weighted by rows (Naeini et al. 2015)."""
    predicted, observed, rows = curve(labels, scores, counts)
    return float(np.abs(observed - predicted) @ rows / rows.sum())
