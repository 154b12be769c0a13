"""A user's accuracy is the share of their pairs of a watched and an unrated film that are ordered right.

It is averaged over users, so that a user with many ratings counts as much as one with few.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from loop.core.params import Section
from loop.stats.evaluation import Evaluation, Metric, Rows
from loop.stats.metrics import Counts, pairwise_accuracy

from .scorer import NEW


class Params(Section):
    """Nothing to choose."""


def evaluation(_: Params) -> Evaluation:
    """The accuracy over films that training has seen, and over all, with new ones counted as wrong."""
    known = Metric("accuracy_by_user", partial(by_user, new=False))
    return Evaluation(metrics=(known, Metric("accuracy_by_user_with_new_films", partial(by_user, new=True))))


def by_user(rows: Rows, *, new: bool) -> Callable[[Counts], float]:
    """The mean over users of their pairwise accuracy; users without pairs do not count."""
    assert rows.units is not None  # noqa: S101 - a ranking has an entity
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
