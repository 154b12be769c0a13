"""Uses only the task's metric: Spearman's correlation of each pair's cosine and label."""

from loop.stats.evaluation import Evaluation


def evaluation(_: object) -> Evaluation:
    """Add nothing to the task's metrics. The engine resamples whole pairs by itself."""
    return Evaluation()
