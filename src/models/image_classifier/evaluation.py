"""Adds to the task's metrics the accuracy on the digit that is recognized worst."""

import numpy as np

from loop.stats.evaluation import Evaluation, Metric, Rows
from loop.stats.metrics import Measure


def evaluation(_: object) -> Evaluation:
    """Add `worst_digit` to the task's metrics."""
    return Evaluation(metrics=(Metric("worst_digit", worst_digit),))


def worst_digit(rows: Rows) -> Measure:
    """Accuracy on the images of the digit with the lowest accuracy."""
    right = rows.decided == rows.labels

    def measure(counts: np.ndarray) -> float:
        found = np.bincount(rows.labels, counts * right)
        seen = np.bincount(rows.labels, counts)
        return float((found[seen > 0] / seen[seen > 0]).min())

    return measure
