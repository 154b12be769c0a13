"""The metrics that models are judged by. Evaluation, floors, gate and reports read this one table."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loop.stats import calibration, classification

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]
Counts = NDArray[np.int64]
Measure = Callable[[Counts], float]  # how often each row counts -> the metric
Prepare = Callable[[Labels, Floats, float], Measure]  # labels, scores, threshold


@dataclass(frozen=True)
class Metric:
    """One way to judge scores.

    `prepare` sorts once so that a bootstrap can measure often. Its arguments are (n,) class numbers from 0,
    (n,) scores of class 1 or (n, classes) scores, and the score from which a row counts as class 1.
    """

    name: str
    tasks: tuple[str, ...]
    prepare: Prepare
    lower: bool = False  # lower is better

    def of(self, labels: Labels, scores: Floats, threshold: float) -> float:
        """The metric over all rows, each counted once."""
        return self.prepare(labels, scores, threshold)(np.ones(len(labels), dtype=np.int64))


def by_rows(function: Callable[[Labels, Floats, float], float]) -> Prepare:
    """A metric without a quicker form: it is computed over the rows, each as often as it counts."""

    def prepare(labels: Labels, scores: Floats, threshold: float) -> Measure:
        numbers = np.arange(len(labels))

        def measure(counts: Counts) -> float:
            rows = np.repeat(numbers, counts)
            return function(labels[rows], scores[rows], threshold)

        return measure

    return prepare


def average_precision(labels: Labels, scores: Floats, _: float) -> Measure:
    """Sum over falling thresholds of (recall gained) x precision; tied scores share one threshold."""
    order, ends = classification.thresholds(_both(labels, scores))
    positive = labels[order] == 1

    def measure(counts: Counts) -> float:
        drawn = counts[order]
        found = np.cumsum(drawn * positive)[ends]
        flagged = np.cumsum(drawn)[ends]
        gained = np.diff(found, prepend=0)
        precision = found / np.maximum(flagged, 1)
        return float(gained @ precision / found[-1])

    return measure


def roc_auc(labels: Labels, scores: Floats, _: float) -> Measure:
    """The chance that a positive row outranks a negative one; a tie counts half."""
    order, ends = classification.thresholds(_both(labels, scores))
    positive = labels[order] == 1

    def measure(counts: Counts) -> float:
        drawn = counts[order]
        found = np.cumsum(drawn * positive)[ends]
        missed = np.cumsum(drawn * ~positive)[ends]
        gained, false = np.diff(found, prepend=0), np.diff(missed, prepend=0)
        return float(gained @ (missed[-1] - missed + false / 2) / (found[-1] * missed[-1]))

    return measure


def accuracy(labels: Labels, scores: Floats, threshold: float) -> Measure:
    """The share of rows whose class is right."""
    right = decided(scores, threshold) == labels

    def measure(counts: Counts) -> float:
        return float(counts @ right / counts.sum())

    return measure


def decided(scores: Floats, threshold: float) -> Labels:
    """The class that scores say: by threshold, or the largest of one score a class."""
    return (scores >= threshold).astype(np.int64) if scores.ndim == 1 else scores.argmax(axis=1)


def _f1(labels: Labels, scores: Floats, threshold: float) -> float:
    chosen = decided(scores, threshold)
    if scores.ndim > 1:
        return classification.macro_f1(labels, chosen)
    return classification.decisions(labels, chosen == 1).f1


def _precision(labels: Labels, scores: Floats, threshold: float) -> float:
    return classification.decisions(labels, scores >= threshold).precision


def _recall(labels: Labels, scores: Floats, threshold: float) -> float:
    return classification.decisions(labels, scores >= threshold).recall


def _log_loss(labels: Labels, scores: Floats, _: float) -> float:
    return classification.log_loss(labels, scores)


def _brier(labels: Labels, scores: Floats, _: float) -> float:
    return classification.brier(labels, scores)


def _calibration_error(labels: Labels, scores: Floats, _: float) -> float:
    return calibration.expected_error(labels, scores)


def _both(labels: Labels, scores: Floats) -> Floats:
    if len(found := np.unique(labels)) != 2:  # noqa: PLR2004 - the positive class and the other
        raise ValueError(f"a ranking needs rows of both classes, has {found.tolist()}")
    return scores


ANY = ("binary", "multiclass")
BINARY = ANY[:1]
METRICS = {
    metric.name: metric
    for metric in (
        Metric("average_precision", BINARY, average_precision),
        Metric("roc_auc", BINARY, roc_auc),
        Metric("accuracy", ANY, accuracy),
        Metric("f1", ANY, by_rows(_f1)),
        Metric("precision", BINARY, by_rows(_precision)),
        Metric("recall", BINARY, by_rows(_recall)),
        Metric("log_loss", ANY, by_rows(_log_loss), lower=True),
        Metric("brier", BINARY, by_rows(_brier), lower=True),
        Metric("calibration_error", BINARY, by_rows(_calibration_error), lower=True),
    )
}


def of(task: str) -> dict[str, Metric]:
    """The metrics of a task, by name, in the order in which reports show them."""
    return {name: metric for name, metric in METRICS.items() if task in metric.tasks}


def lower(name: str) -> bool:
    """Whether lower values of a metric are better; one that a model adds is better where it is higher."""
    return name in METRICS and METRICS[name].lower


def missed(name: str, value: float, bound: float) -> str | None:
    """How a value misses the bound that a team set; None where it holds. NaN never holds."""
    if lower(name):
        return None if value <= bound else f"{name} is {value:.4f}, over its bound {bound:g}"
    return None if value >= bound else f"{name} is {value:.4f}, under its floor {bound:g}"
