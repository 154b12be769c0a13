"""Payments are judged by the metrics of their task; a card's payments are resampled together."""

from loop.stats.evaluation import Evaluation


def evaluation(_: object) -> Evaluation:
    """Nothing is added."""
    return Evaluation(unit="CUSTOMER_ID")
