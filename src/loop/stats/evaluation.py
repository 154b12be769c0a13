"""How a model is judged beyond the metrics of its task. A model's evaluation.py returns an Evaluation."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from loop.core.params import Split
from loop.stats import metrics
from loop.stats.metrics import Metric, Rows

__all__ = ["Evaluation", "Metric", "Rows"]


@dataclass(frozen=True)
class Evaluation:
    """What one model adds.

    metrics: measured beside those of the task; floors and gate may name them.
    leaves_out: takes features.parquet and the split, and returns a mask of rows that the test leaves out.
    unit: the column whose rows belong together, such as a customer's. The gate's bootstrap draws whole
        units, because rows that resemble each other say less than as many independent ones.
    """

    metrics: tuple[Metric, ...] = ()
    leaves_out: Callable[[pa.Table, Split], NDArray[np.bool_]] | None = None
    unit: str | None = None

    def units(self, scored: pa.Table) -> NDArray[Any] | None:
        """The unit of each row; None where each row is its own."""
        return scored[self.unit].to_numpy() if self.unit else None

    def known(self, task: str) -> dict[str, Metric]:
        """Every metric of the model, by name."""
        return {**metrics.of(task), **{metric.name: metric for metric in self.metrics}}
