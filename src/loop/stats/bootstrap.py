"""Bootstrap intervals of a metric, and of the difference between two models that scored the same rows."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from loop.stats.metrics import Counts, Floats, Labels, Metric, Rows

if TYPE_CHECKING:
    import pyarrow as pa


class Interval(NamedTuple):
    """A percentile interval with the mean of the resampled values."""

    low: float
    mean: float
    high: float
    # number of units (or rows) outside the most frequent class; for a regression, number of all units
    rarer: int | None = None


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
    """Return the paired bootstrap interval of `metric(challenger) - metric(champion)`.

    Rows are drawn with replacement, separately within each class, so every resample has the same number of
    rows per class and every metric is defined. Both models are measured on the same draw (Efron & Tibshirani
    1993, ch. 16). With `units`, whole units are drawn (Davison & Hinkley 1997, section 3.8); a unit belongs
    to the highest class of its rows.

    Args:
        labels: (n,) class numbers from 0 as integers, or true values of a regression as floats.
        champion: (n,) scores of class 1, or (n, classes) scores, or (n,) predicted values of a regression.
        challenger: as `champion`.
        metric: one of the model's. If lower values are better, a better challenger's difference is below 0.
        samples: number of resamples.
        confidence: share of the resampled differences inside the interval.
        seed: the same seed and rows give the same interval.
        thresholds: the scores from which champion and challenger predict class 1.
        columns: (n,) other columns of the rows, for metrics that need them.
        units: (n,) the unit of each row; None if each row is a unit.
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
    """Return the bootstrap interval of one model's metric. Draws and arguments are those of `difference`."""
    y = _known(labels)
    measure = metric.prepare(Rows(y, np.asarray(scores), threshold, columns, units=units))
    draws = resamples(y, samples, np.random.default_rng(seed), units)
    return _percentiles([measure(counts) for counts in draws], confidence, _rarer(y, units))


def _known(labels: NDArray[np.generic]) -> NDArray[Any]:
    """Return class numbers as int64, and values of a regression as float64."""
    known = np.asarray(labels)
    return known.astype(np.float64 if known.dtype.kind == "f" else np.int64)


def _rarer(labels: NDArray[Any], units: NDArray[Any] | None) -> int:
    """Return how many units are outside the most frequent class; for a regression, the number of units."""
    drawn = classes(labels, units)[0]
    return len(drawn) - (0 if labels.dtype.kind == "f" else int(np.bincount(drawn).max()))


def _percentiles(values: list[float], confidence: float, rarer: int) -> Interval:
    """Return the percentile interval, widened as by Student's t for small samples.

    Without this, few rows give resamples too little spread. Hesterberg, "What Teachers Should Know About the
    Bootstrap", 2014, section 5.3. `rarer` is the number of rows that counts as the sample size: those outside
    the most frequent class, or all of a regression.
    """
    from scipy.special import ndtr, stdtrit  # scipy.stats has the same functions, but takes seconds to import

    tail = (1 - confidence) / 2
    if rarer > 1:
        tail = float(ndtr(np.sqrt(rarer / (rarer - 1)) * stdtrit(rarer - 1, tail)))
    low, high = np.quantile(values, [tail, 1 - tail])
    return Interval(float(low), float(np.mean(values)), float(high), rarer)


def resamples(
    labels: NDArray[Any], samples: int, rng: np.random.Generator, units: NDArray[Any] | None = None
) -> Iterator[Counts]:
    """Yield, `samples` times, how often each row is drawn (n,). Every class keeps its number of units."""
    drawn, unit_of_row = classes(labels, units)
    strata = [np.flatnonzero(drawn == value) for value in np.unique(drawn)]
    for _ in range(samples):
        counts = np.zeros(len(drawn), dtype=np.int64)
        for members in strata:
            chosen = rng.integers(0, len(members), len(members))
            counts[members] = np.bincount(chosen, minlength=len(members))
        yield counts[unit_of_row]


def classes(labels: NDArray[Any], units: NDArray[Any] | None) -> tuple[Labels, Counts]:
    """Return the class of each unit, the highest of its rows, and the index of each row's unit.

    All values of a regression count as one class.
    """
    known = np.zeros(len(labels), dtype=np.int64) if labels.dtype.kind == "f" else labels.astype(np.int64)
    if units is None:
        return known, np.arange(len(labels))
    names, unit_of_row = np.unique(units, return_inverse=True)
    highest = np.zeros(len(names), dtype=np.int64)
    np.maximum.at(highest, unit_of_row, known)
    return highest, unit_of_row
