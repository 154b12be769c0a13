"""Evaluates rankings of films by the share of correctly ordered pairs of a watched and an unrated film.

The mean over users is taken, so that users with many ratings do not count more.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from loop.stats.evaluation import Evaluation, Metric, Rows
from loop.stats.metrics import Counts, pairwise_accuracy

from .scorer import NEW


def evaluation(_: object) -> Evaluation:
    """Add two accuracies to the metrics: over films seen in training, and over all films.

    In the second, films that training has not seen count as wrong.
    """
    known = Metric("accuracy_by_user", partial(by_user, new=False))
    return Evaluation(metrics=(known, Metric("accuracy_by_user_with_new_films", partial(by_user, new=True))))


def by_user(rows: Rows, *, new: bool) -> Callable[[Counts], float]:
    """Return the mean over users of a user's pairwise accuracy; users without pairs are left out."""
    assert rows.units is not None  # noqa: S101 - a ranking always has entities
    order = np.argsort(rows.units, kind="stable")
    starts = np.flatnonzero(np.diff(rows.units[order])) + 1
    first, values = [], []
    for members in np.split(order, starts):
        judged = members if new else members[rows.scores[members] > NEW]
        if len(np.unique(rows.labels[judged])) > 1:
            values.append(pairwise_accuracy(rows.take(judged))(np.ones(len(judged), np.int64)))
            first.append(members[0])

    def measure(counts: Counts) -> float:
        return float(counts[first] @ np.array(values) / counts[first].sum())

    return measure
