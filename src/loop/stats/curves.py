"""The curves of a classifier. ROC and precision-recall are as scikit-learn defines them.

They are implemented here because importing scikit-learn takes seconds.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]
BINS = 10


def roc(labels: Labels, scores: Floats) -> tuple[Floats, Floats]:
    """Return false and true positive rates from (0, 0) to (1, 1), with one point per distinct score."""
    found, flagged = _counts(labels, scores)
    missed = flagged - found
    return np.append(0.0, missed / missed[-1]), np.append(0.0, found / found[-1])


def precision_recall(labels: Labels, scores: Floats) -> tuple[Floats, Floats]:
    """Return precision and recall for rising thresholds, one point per distinct score, ending with (1, 0)."""
    found, flagged = _counts(labels, scores)
    return np.append((found / flagged)[::-1], 1.0), np.append((found / found[-1])[::-1], 0.0)


def thresholds(scores: Floats) -> tuple[Labels, Labels]:
    """Return (n,) row indexes by descending score, and each distinct score's last position in that order."""
    order = np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")
    ends = np.flatnonzero(np.append(np.diff(np.asarray(scores)[order]) != 0, True))
    return order, ends


def _counts(labels: Labels, scores: Floats) -> tuple[Labels, Labels]:
    """Return how many positive rows, and how many rows, have at least each distinct score, highest first."""
    order, ends = thresholds(scores)
    return np.cumsum(np.asarray(labels)[order] == 1)[ends], ends + 1


class Calibration(NamedTuple):
    """For each bin that contains rows: mean score, share of positives, and number of rows."""

    predicted: Floats
    observed: Floats
    rows: NDArray[Any]


def calibration(labels: Labels, scores: Floats, counts: Labels | None = None) -> Calibration:
    """Return the reliability curve over ten equal bins of [0, 1]. `counts` (n,) weights the rows.

    Of all rows with a score of 0.3, three in ten should be of class 1.
    """
    position = np.clip((scores * BINS).astype(np.int64), 0, BINS - 1)
    each = np.ones(len(scores)) if counts is None else counts.astype(np.float64)
    rows, predicted, observed = (
        np.bincount(position, weights=weights, minlength=BINS)
        for weights in (each, each * scores, each * labels)
    )
    filled = rows > 0
    return Calibration(predicted[filled] / rows[filled], observed[filled] / rows[filled], rows[filled])
