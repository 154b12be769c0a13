"""Sentences and film reviews are judged apart, because one is much harder than the other."""

from functools import partial

import numpy as np

from loop.core.params import Section
from loop.stats.evaluation import Evaluation, Metric, Rows
from loop.stats.metrics import Measure

from .schema import DOMAINS


class Params(Section):
    """Nothing to choose."""


def evaluation(_: Params) -> Evaluation:
    """The accuracy on each domain, beside the metrics of the task over all rows."""
    return Evaluation(
        metrics=tuple(Metric(f"accuracy_{name}", partial(accuracy, domain=name)) for name in DOMAINS)
    )


def accuracy(rows: Rows, domain: str) -> Measure:
    """The share of a domain's texts that are classified correctly; NaN for a domain without texts."""
    mine = rows.column("domain") == domain
    right = mine & (rows.decided == rows.labels)
    return lambda counts: float(counts @ right / total) if (total := counts @ mine) else np.nan
