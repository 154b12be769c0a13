"""Evaluates sentences and film reviews separately, because one of the domains is much harder."""

from functools import partial

import numpy as np

from loop.stats.evaluation import Evaluation, Metric, Rows
from loop.stats.metrics import Measure

from .schema import DOMAINS


def evaluation(_: object) -> Evaluation:
    """Add the accuracy on each domain to the task's metrics."""
    return Evaluation(
        metrics=tuple(Metric(f"accuracy_{name}", partial(accuracy, domain=name)) for name in DOMAINS)
    )


def accuracy(rows: Rows, domain: str) -> Measure:
    """Share of a domain's texts that are classified correctly; NaN if the domain has no texts."""
    mine = rows.column("domain") == domain
    right = mine & (rows.decided == rows.labels)
    return lambda counts: float(counts @ right / total) if (total := counts @ mine) else np.nan
