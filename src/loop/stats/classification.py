"""ROC and precision-recall curves as scikit-learn defines them.

They are implemented here because importing scikit-learn takes seconds.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


def roc_curve(labels: Labels, scores: Floats) -> tuple[Floats, Floats]:
    """Return false and true positive rates from (0, 0) to (1, 1), with one point per distinct score."""
    found, flagged = _counts(labels, scores)
    missed = flagged - found
    return _from_zero(missed / missed[-1]), _from_zero(found / found[-1])


def precision_recall_curve(labels: Labels, scores: Floats) -> tuple[Floats, Floats]:
    """Return precision and recall for rising thresholds, one point per distinct score, ending with (1, 0)."""
    found, flagged = _counts(labels, scores)
    return np.append((found / flagged)[::-1], 1.0), np.append((found / found[-1])[::-1], 0.0)


def thresholds(scores: Floats) -> tuple[Labels, Labels]:
    """Return (n,) row indexes by descending score, and each distinct score's last position in that order."""
    order = np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")
    ends = np.flatnonzero(np.append(np.diff(np.asarray(scores)[order]) != 0, True))
    return order, ends


def _counts(labels: Labels, scores: Floats) -> tuple[Labels, Labels]:
    """Return how many positive rows, and how many rows, have at least each distinct score.

    Scores are in descending order.
    """
    order, ends = thresholds(scores)
    return np.cumsum(np.asarray(labels)[order] == 1)[ends], ends + 1


def _from_zero(values: Floats) -> Floats:
    return np.concatenate([[0.0], values])
