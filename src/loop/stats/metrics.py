"""The metrics that models are judged by. Evaluation, floors, gate and reports read this one table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from loop.stats import calibration, classification

if TYPE_CHECKING:
    import pyarrow as pa

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]
Counts = NDArray[np.int64]
Measure = Callable[[Counts], float]  # how often each row counts -> the metric


@dataclass(frozen=True)
class Rows:
    """Rows that a model has scored."""

    labels: Labels  # (n,) class numbers from 0
    scores: Floats  # (n,) of class 1, or (n, classes)
    threshold: float = 0.5  # the score from which a row counts as class 1
    columns: pa.Table | None = None  # their id, time and entity, for metrics that a model adds

    def take(self, numbers: Counts) -> Rows:
        """Those rows, in that order; a number may come twice."""
        columns = self.columns.take(numbers) if self.columns is not None else None
        return replace(self, labels=self.labels[numbers], scores=self.scores[numbers], columns=columns)

    def column(self, name: str) -> NDArray[Any]:
        """(n,) of another column; LookupError where there is none."""
        if self.columns is None:
            raise LookupError(f"these rows came without their other columns, so without {name}")
        found: NDArray[Any] = self.columns[name].to_numpy()
        return found

    @property
    def decided(self) -> Labels:
        """The class that the scores say: by threshold, or the largest of one score a class."""
        flat = self.scores.ndim == 1
        chosen: NDArray[Any] = self.scores >= self.threshold if flat else self.scores.argmax(axis=1)
        return chosen.astype(np.int64)


@dataclass(frozen=True)
class Metric:
    """One way to judge scores. `prepare` does once what a bootstrap need not repeat for each resample."""

    name: str
    prepare: Callable[[Rows], Measure]
    lower: bool = False  # lower is better

    def of(self, rows: Rows) -> float:
        """The metric over all rows, each counted once."""
        return self.prepare(rows)(np.ones(len(rows.labels), dtype=np.int64))

    def missed(self, value: float, bound: float) -> str | None:
        """How a value misses the bound that a team set; None where it holds. NaN never holds."""
        if self.lower:
            return None if value <= bound else f"{self.name} is {value:.4f}, over its bound {bound:g}"
        return None if value >= bound else f"{self.name} is {value:.4f}, under its floor {bound:g}"


def by_rows(function: Callable[[Rows], float]) -> Callable[[Rows], Measure]:
    """A metric without a quicker form: it is computed over the rows, each as often as it counts."""

    def prepare(rows: Rows) -> Measure:
        numbers = np.arange(len(rows.labels))
        return lambda counts: function(rows.take(np.repeat(numbers, counts)))

    return prepare


def average_precision(rows: Rows) -> Measure:
    """Sum over falling thresholds of (recall gained) x precision; tied scores share one threshold."""
    order, ends = classification.thresholds(rows.scores)
    positive = _of_both(rows.labels)[order] == 1

    def measure(counts: Counts) -> float:
        drawn = counts[order]
        found = np.cumsum(drawn * positive)[ends]
        flagged = np.cumsum(drawn)[ends]
        gained = np.diff(found, prepend=0)
        precision = found / np.maximum(flagged, 1)
        return float(gained @ precision / found[-1])

    return measure


def roc_auc(rows: Rows) -> Measure:
    """The chance that a positive row outranks a negative one; a tie counts half."""
    order, ends = classification.thresholds(rows.scores)
    positive = _of_both(rows.labels)[order] == 1

    def measure(counts: Counts) -> float:
        drawn = counts[order]
        found = np.cumsum(drawn * positive)[ends]
        missed = np.cumsum(drawn * ~positive)[ends]
        gained, false = np.diff(found, prepend=0), np.diff(missed, prepend=0)
        return float(gained @ (missed[-1] - missed + false / 2) / (found[-1] * missed[-1]))

    return measure


def accuracy(rows: Rows) -> Measure:
    """The share of rows whose class is right."""
    right = rows.decided == rows.labels

    def measure(counts: Counts) -> float:
        return float(counts @ right / counts.sum())

    return measure


def _f1(rows: Rows) -> float:
    if rows.scores.ndim > 1:
        return classification.macro_f1(rows.labels, rows.decided)
    return _decisions(rows).f1


def _decisions(rows: Rows) -> classification.Decisions:
    return classification.decisions(rows.labels, rows.decided == 1)


def _of_both(labels: Labels) -> Labels:
    if len(found := np.unique(labels)) != 2:  # noqa: PLR2004 - the positive class and the other
        raise ValueError(f"a ranking needs rows of both classes, has {found.tolist()}")
    return labels


ANY = (
    Metric("accuracy", accuracy),
    Metric("f1", by_rows(_f1)),
    Metric("log_loss", by_rows(lambda rows: classification.log_loss(rows.labels, rows.scores)), lower=True),
)
TASKS = {
    "binary": (
        Metric("average_precision", average_precision),
        Metric("roc_auc", roc_auc),
        *ANY[:2],
        Metric("precision", by_rows(lambda rows: _decisions(rows).precision)),
        Metric("recall", by_rows(lambda rows: _decisions(rows).recall)),
        *ANY[2:],
        Metric("brier", by_rows(lambda rows: classification.brier(rows.labels, rows.scores)), lower=True),
        Metric(
            "calibration_error",
            by_rows(lambda rows: calibration.expected_error(rows.labels, rows.scores)),
            lower=True,
        ),
    ),
    "multiclass": ANY,
}


def of(task: str) -> dict[str, Metric]:
    """The metrics of a task, by name, in the order in which reports show them."""
    return {metric.name: metric for metric in TASKS[task]}
