"""How sure a metric is, and the difference between two models when both scored the same rows."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]
Counts = NDArray[np.int64]
Metric = Callable[[Counts], float]  # how often each row was drawn -> the metric


class Interval(NamedTuple):
    """A percentile interval and the mean of the resampled values."""

    low: float
    mean: float
    high: float
    rarer: int | None = None  # rows that are not of the most frequent class


def difference(
    labels: NDArray[np.generic],
    champion: Floats,
    challenger: Floats,
    *,
    metric: str = "average_precision",
    samples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    threshold: float = 0.5,
) -> Interval:
    """Paired bootstrap of `metric(challenger) - metric(champion)`.

    Rows are drawn with replacement within each class, so every resample has the classes' own sizes and
    no metric is undefined; both models are measured on the same draw (Efron & Tibshirani 1993, ch. 16).

    Args:
        labels: (n,) class numbers from 0; 0 and 1 for average_precision and roc_auc.
        champion: (n,) scores, or (n, classes) for accuracy.
        challenger: as `champion`.
        metric: `average_precision`, `roc_auc` or `accuracy`.
        samples: resamples.
        confidence: share of the resampled differences inside the interval.
        seed: same seed and rows, same interval.
        threshold: from here up a one-dimensional score is class 1, for accuracy.
    """
    y = np.asarray(labels).astype(np.int64)
    before, after = (prepare(metric, y, scores, threshold) for scores in (champion, challenger))
    draws = resamples(y, samples, np.random.default_rng(seed))
    return _percentiles([after(counts) - before(counts) for counts in draws], confidence, y)


def interval(
    labels: NDArray[np.generic],
    scores: Floats,
    *,
    metric: str,
    samples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    threshold: float = 0.5,
) -> Interval:
    """Bootstrap of one model's metric, over the draws that `difference` makes; its arguments are the same."""
    y = np.asarray(labels).astype(np.int64)
    measure = prepare(metric, y, scores, threshold)
    draws = resamples(y, samples, np.random.default_rng(seed))
    return _percentiles([measure(counts) for counts in draws], confidence, y)


def _percentiles(values: list[float], confidence: float, labels: Labels) -> Interval:
    """The percentile interval, expanded as Student's t is: few rows resample to too little spread.

    Hesterberg, "What Teachers Should Know About the Bootstrap", 2014, section 5.3. The rows that count are
    those of the rarer class.
    """
    from scipy.special import ndtr, stdtrit  # scipy.stats would take seconds to import

    rarer = len(labels) - int(np.bincount(labels).max())
    tail = (1 - confidence) / 2
    if rarer > 1:
        tail = float(ndtr(np.sqrt(rarer / (rarer - 1)) * stdtrit(rarer - 1, tail)))
    low, high = np.quantile(values, [tail, 1 - tail])
    return Interval(float(low), float(np.mean(values)), float(high), rarer)


def resamples(labels: Labels, samples: int, rng: np.random.Generator) -> Iterator[Counts]:
    """How often each row is drawn, `samples` times; every class keeps its size."""
    classes = [np.flatnonzero(labels == value) for value in np.unique(labels)]
    for _ in range(samples):
        counts = np.zeros(len(labels), dtype=np.int64)
        for rows in classes:
            counts[rows] = np.bincount(rng.integers(0, len(rows), len(rows)), minlength=len(rows))
        yield counts


def prepare(metric: str, labels: Labels, scores: Floats, threshold: float = 0.5) -> Metric:
    """Sort once, measure often: the metric as a function of how often each row counts."""
    if metric == "accuracy":
        return accuracy(labels, scores, threshold)
    if metric not in {"average_precision", "roc_auc"}:
        raise ValueError(f"metric {metric!r}: is none of average_precision, roc_auc, accuracy")
    if len(np.unique(labels)) != 2:  # noqa: PLR2004 — fraud or not
        raise ValueError(f"{metric} needs rows of both classes, has {np.unique(labels).tolist()}")
    return average_precision(labels, scores) if metric == "average_precision" else roc_auc(labels, scores)


def average_precision(labels: Labels, scores: Floats) -> Metric:
    """Sum over falling thresholds of (recall gained) x precision; tied scores share one threshold."""
    order, ends = thresholds(scores)
    positive = labels[order] == 1

    def measure(counts: Counts) -> float:
        drawn = counts[order]
        found = np.cumsum(drawn * positive)[ends]
        flagged = np.cumsum(drawn)[ends]
        gained = np.diff(found, prepend=0)
        precision = found / np.maximum(flagged, 1)
        return float(gained @ precision / found[-1])

    return measure


def roc_auc(labels: Labels, scores: Floats) -> Metric:
    """The chance that a positive row outranks a negative one; a tie counts half."""
    order, ends = thresholds(scores)
    positive = labels[order] == 1

    def measure(counts: Counts) -> float:
        drawn = counts[order]
        found = np.cumsum(drawn * positive)[ends]
        missed = np.cumsum(drawn * ~positive)[ends]
        gained, false = np.diff(found, prepend=0), np.diff(missed, prepend=0)
        return float(gained @ (missed[-1] - missed + false / 2) / (found[-1] * missed[-1]))

    return measure


def accuracy(labels: Labels, scores: Floats, threshold: float) -> Metric:
    """The share of rows whose class is right: by threshold, or the largest of one score a class."""
    one_dimensional = np.ndim(scores) == 1
    predicted = np.asarray(scores) >= threshold if one_dimensional else np.argmax(scores, axis=1)
    right = predicted == labels

    def measure(counts: Counts) -> float:
        return float(counts @ right / counts.sum())

    return measure


def thresholds(scores: Floats) -> tuple[Counts, Counts]:
    """(n,) row numbers by falling score, and in that order the last position of each distinct score."""
    order = np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")
    ends = np.flatnonzero(np.append(np.diff(np.asarray(scores)[order]) != 0, True))
    return order, ends
