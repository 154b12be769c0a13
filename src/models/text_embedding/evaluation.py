"""Judged by its task's own metric: Spearman's correlation of a pair's cosine and label."""

from loop.core.params import Section
from loop.stats.evaluation import Evaluation


class Params(Section):
    """Nothing to choose."""


def evaluation(_: Params) -> Evaluation:
    """Nothing is added: the engine resamples whole pairs."""
    return Evaluation()
