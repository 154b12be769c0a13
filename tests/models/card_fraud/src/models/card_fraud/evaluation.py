"""Payments are evaluated by the metrics of their task; a card's payments are resampled together."""

from loop.stats.evaluation import Evaluation


def evaluation(_: object) -> Evaluation:
    """Add no metric; resample cards."""
    return Evaluation(unit="CUSTOMER_ID")
