"""Picks are judged by the metrics of their task alone."""

from loop.stats.evaluation import Evaluation


def evaluation(_: object) -> Evaluation:
    """Nothing is added."""
    return Evaluation()
