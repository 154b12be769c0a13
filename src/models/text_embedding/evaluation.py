"""An embedding is judged by the metric of its task: Spearman's correlation of cosine and label, over pairs."""

from loop.core.params import Section
from loop.stats.evaluation import Evaluation


class Params(Section):
    """Nothing to choose."""


def evaluation(_: Params) -> Evaluation:
    """Nothing is added: the engine resamples whole pairs."""
    return Evaluation()
