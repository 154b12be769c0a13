"""Defines how a model is evaluated beyond its task's metrics.

A model's evaluation.py returns an Evaluation.
"""

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
    """A model's additions to the evaluation of its task.

    metrics: measured in addition to the task's metrics; floors and gate may use them.
    leaves_out: function of features.parquet and the split that returns a mask of rows to leave out of the
        test.
    unit: column whose equal values mark rows that belong together, such as a customer's. The gate's bootstrap
        draws whole units, because similar rows carry less information than the same number of independent
        rows.
    """

    metrics: tuple[Metric, ...] = ()
    leaves_out: Callable[[pa.Table, Split], NDArray[np.bool_]] | None = None
    unit: str | None = None

    def units(self, scored: pa.Table) -> NDArray[Any] | None:
        """Return the unit of each row (n,); None if each row is a unit."""
        return scored[self.unit].to_numpy() if self.unit else None

    def known(self, task: str) -> dict[str, Metric]:
        """Return {name: Metric} for all metrics of the model."""
        return {**metrics.of(task), **{metric.name: metric for metric in self.metrics}}
