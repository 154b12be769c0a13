"""How sure a metric is, and the difference between two models when both scored the same rows."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from loop.stats.metrics import Counts, Floats, Labels, Metric, Rows

if TYPE_CHECKING:
    import pyarrow as pa


class Interval(NamedTuple):
    """A percentile interval and the mean of the resampled values."""

    low: float
    mean: float
    high: float
    rarer: int | None = None  # units, or rows, that are not of the most frequent class; of a regression, all


def difference(
    labels: NDArray[np.generic],
    champion: Floats,
    challenger: Floats,
    *,
    metric: Metric,
    samples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    thresholds: tuple[float, float] = (0.5, 0.5),
    columns: "pa.Table | None" = None,
    units: NDArray[Any] | None = None,
) -> Interval:
    """Paired bootstrap of `metric(challenger) - metric(champion)`.

    Rows are drawn with replacement, within each class where there are classes, so every resample has their
    own sizes and no metric is undefined; both models are measured on the same draw (Efron & Tibshirani 1993,
    ch. 16).
    With `units` whole units are drawn (Davison & Hinkley 1997, section 3.8), each by its highest class.

    Args:
        labels: (n,) class numbers from 0, as integers; floats are the true values of a regression.
        champion: (n,) scores of class 1, or (n, classes); predicted values of a regression.
        challenger: as `champion`.
        metric: one of the task's; the difference of a metric whose lower values are better falls below 0.
        samples: resamples.
        confidence: share of the resampled differences inside the interval.
        seed: same seed and rows, same interval.
        thresholds: the champion's and the challenger's score from which a row counts as class 1.
        columns: (n,) the rows' other columns, for metrics that need them.
        units: (n,) which unit a row belongs to; None: each row is one.
    """
    y = _known(labels)
    before = metric.prepare(Rows(y, np.asarray(champion), thresholds[0], columns, units=units))
    after = metric.prepare(Rows(y, np.asarray(challenger), thresholds[1], columns, units=units))
    draws = resamples(y, samples, np.random.default_rng(seed), units)
    return _percentiles([after(counts) - before(counts) for counts in draws], confidence, _rarer(y, units))


def interval(
    labels: NDArray[np.generic],
    scores: Floats,
    *,
    metric: Metric,
    samples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    threshold: float = 0.5,
    columns: "pa.Table | None" = None,
    units: NDArray[Any] | None = None,
) -> Interval:
    """Bootstrap of one model's metric, over the draws that `difference` makes; its arguments are the same."""
    y = _known(labels)
    measure = metric.prepare(Rows(y, np.asarray(scores), threshold, columns, units=units))
    draws = resamples(y, samples, np.random.default_rng(seed), units)
    return _percentiles([measure(counts) for counts in draws], confidence, _rarer(y, units))


def _known(labels: NDArray[np.generic]) -> NDArray[Any]:
    """Class numbers as int64, values as float64."""
    known = np.asarray(labels)
    return known.astype(np.float64 if known.dtype.kind == "f" else np.int64)


def _rarer(labels: NDArray[Any], units: NDArray[Any] | None) -> int:
    """How many units are not of the most frequent class; of a regression, how many there are."""
    drawn = classes(labels, units)[0]
    return len(drawn) - (0 if labels.dtype.kind == "f" else int(np.bincount(drawn).max()))


def _percentiles(values: list[float], confidence: float, rarer: int) -> Interval:
    """The percentile interval, expanded as Student's t is: few rows resample to too little spread.

    Hesterberg, "What Teachers Should Know About the Bootstrap", 2014, section 5.3. The rows that count are
    those of the rarer class; of a regression, all of them.
    """
    from scipy.special import ndtr, stdtrit  # scipy.stats would take seconds to import

    tail = (1 - confidence) / 2
    if rarer > 1:
        tail = float(ndtr(np.sqrt(rarer / (rarer - 1)) * stdtrit(rarer - 1, tail)))
    low, high = np.quantile(values, [tail, 1 - tail])
    return Interval(float(low), float(np.mean(values)), float(high), rarer)


def resamples(
    labels: NDArray[Any], samples: int, rng: np.random.Generator, units: NDArray[Any] | None = None
) -> Iterator[Counts]:
    """How often each row is drawn, `samples` times; every class keeps its number of units."""
    drawn, unit_of_row = classes(labels, units)
    strata = [np.flatnonzero(drawn == value) for value in np.unique(drawn)]
    for _ in range(samples):
        counts = np.zeros(len(drawn), dtype=np.int64)
        for members in strata:
            chosen = rng.integers(0, len(members), len(members))
            counts[members] = np.bincount(chosen, minlength=len(members))
        yield counts[unit_of_row]


def classes(labels: NDArray[Any], units: NDArray[Any] | None) -> tuple[Labels, Counts]:
    """The class of each unit, which is the highest of its rows', and the number of each row's unit.

    The values of a regression are all of one class.
    """
    known = np.zeros(len(labels), dtype=np.int64) if labels.dtype.kind == "f" else labels.astype(np.int64)
    if units is None:
        return known, np.arange(len(labels))
    names, unit_of_row = np.unique(units, return_inverse=True)
    highest = np.zeros(len(names), dtype=np.int64)
    np.maximum.at(highest, unit_of_row, known)
    return highest, unit_of_row
