"""Digits are judged by the metrics of their task, and by the digit that is read worst."""

import numpy as np

from loop.core.params import Section
from loop.stats.evaluation import Evaluation, Metric, Rows
from loop.stats.metrics import Measure


class Params(Section):
    """Nothing to choose."""


def evaluation(_: Params) -> Evaluation:
    """`worst_digit` beside accuracy, F1 and log loss."""
    return Evaluation(metrics=(Metric("worst_digit", worst_digit),))


def worst_digit(rows: Rows) -> Measure:
    """The share of right answers among the images of the digit that has the lowest share."""
    right = rows.decided == rows.labels

    def measure(counts: np.ndarray) -> float:
        found = np.bincount(rows.labels, counts * right)
        seen = np.bincount(rows.labels, counts)
        return float((found[seen > 0] / seen[seen > 0]).min())

    return measure
