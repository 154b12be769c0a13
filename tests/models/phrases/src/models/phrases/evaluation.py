"""Phrases are judged by the metrics of their task alone."""

from loop.core.params import Section
from loop.stats.evaluation import Evaluation


class Params(Section): ...


def evaluation(_: Params) -> Evaluation:
    """Nothing is added."""
    return Evaluation()
