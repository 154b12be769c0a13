"""How right decisions and probabilities are, and the curves of a ranking, as scikit-learn defines them.

scikit-learn's own functions would cost each command that needs one of them seconds of imports.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


class Decisions(NamedTuple):
    """How good yes and no answers are; each is 0 where its denominator is."""

    precision: float
    recall: float
    f1: float


def decisions(labels: NDArray[np.generic], flagged: NDArray[np.bool_]) -> Decisions:
    """Precision, recall and F1 of (n,) answers to (n,) labels 0 or 1."""
    positive = np.asarray(labels) == 1
    hits, answered, wanted = int((positive & flagged).sum()), int(flagged.sum()), int(positive.sum())
    return Decisions(
        precision=hits / answered if answered else 0.0,
        recall=hits / wanted if wanted else 0.0,
        f1=2 * hits / (answered + wanted) if answered + wanted else 0.0,
    )


def macro_f1(labels: Labels, chosen: Labels) -> float:
    """The mean F1 of each class that occurs among the (n,) labels or the (n,) chosen ones."""
    classes = np.union1d(labels, chosen)
    return float(np.mean([decisions(labels == value, chosen == value).f1 for value in classes]))


def log_loss(labels: Labels, scores: Floats) -> float:
    """Mean negative logarithm of the probability that each row's own class was given.

    Args:
        labels: (n,) class numbers from 0.
        scores: (n,) probabilities of class 1, or (n, classes). Clipped to what float64 tells from 0 and 1.
    """
    column = np.asarray(scores, dtype=np.float64)
    table = np.stack([1 - column, column], axis=1) if column.ndim == 1 else column
    eps = np.finfo(np.float64).eps
    own = np.clip(table, eps, 1 - eps)[np.arange(len(labels)), labels]
    return float(-np.log(own).mean())


def brier(labels: Labels, scores: Floats) -> float:
    """Mean squared error of (n,) probabilities of class 1 (Brier 1950)."""
    return float(np.mean((np.asarray(scores, dtype=np.float64) - labels) ** 2))


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
