"""The curves of a ranking, as scikit-learn defines them.

scikit-learn's own functions would cost each command that needs one of them seconds of imports.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


def roc_curve(labels: Labels, scores: Floats) -> tuple[Floats, Floats]:
    """False and true positive rates from (0, 0) to (1, 1), one point for each distinct score."""
    found, flagged = _counts(labels, scores)
    missed = flagged - found
    return _from_zero(missed / missed[-1]), _from_zero(found / found[-1])


def precision_recall_curve(labels: Labels, scores: Floats) -> tuple[Floats, Floats]:
    """Precision and recall by rising threshold, one point for each distinct score, and (1, 0) at the end."""
    found, flagged = _counts(labels, scores)
    return np.append((found / flagged)[::-1], 1.0), np.append((found / found[-1])[::-1], 0.0)


def thresholds(scores: Floats) -> tuple[Labels, Labels]:
    """(n,) row numbers by falling score, and in that order the last position of each distinct score."""
    order = np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")
    ends = np.flatnonzero(np.append(np.diff(np.asarray(scores)[order]) != 0, True))
    return order, ends


def _counts(labels: Labels, scores: Floats) -> tuple[Labels, Labels]:
    """By falling threshold, one for each distinct score: positive rows, and all rows, that score as much."""
    order, ends = thresholds(scores)
    return np.cumsum(np.asarray(labels)[order] == 1)[ends], ends + 1


def _from_zero(values: Floats) -> Floats:
    return np.concatenate([[0.0], values])
