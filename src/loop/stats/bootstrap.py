"""Bootstrap intervals of a metric, and of the difference between two models that scored the same rows."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from loop.stats.curves import Labels
from loop.stats.metrics import Counts, Measure, Metric, Rows


class Interval(NamedTuple):
    """A percentile interval with the mean of the resampled values."""

    low: float
    mean: float
    high: float
    # number of units (or rows) outside the most frequent class; for a regression, number of all units
    rarer: int | None = None


def difference(champion: Rows, challenger: Rows, metric: Metric, **how: Any) -> Interval:
    """Return the paired bootstrap interval of `metric(challenger) - metric(champion)`.

    Both models are measured on the same draw (Efron & Tibshirani 1993, ch. 16), so they must have scored the
    same rows. If lower values of the metric are better, a better challenger's difference is below 0. `how` is
    passed to `interval`.
    """
    before, after = metric.prepare(champion), metric.prepare(challenger)
    return interval(challenger, lambda counts: after(counts) - before(counts), **how)


def interval(rows: Rows, measure: Measure, *, samples: int = 1000, confidence: float = 0.95) -> Interval:
    """Return the percentile interval of `samples` resamples that contains the share `confidence` of them.

    It is widened as by Student's t for small samples, because few rows give resamples too little spread:
    Hesterberg, "What Teachers Should Know About the Bootstrap", 2014, section 5.3. The sample size counts the
    units outside the most frequent class, or all of a regression. The same rows give the same interval.
    """
    from scipy.special import ndtr, stdtrit  # scipy.stats has the same functions, but takes seconds to import

    values = [measure(counts) for counts in resamples(rows, samples, np.random.default_rng(0))]
    drawn = classes(rows)[0]
    rarer = len(drawn) - (0 if rows.labels.dtype.kind == "f" else int(np.bincount(drawn).max()))
    tail = (1 - confidence) / 2
    if rarer > 1:
        tail = float(ndtr(np.sqrt(rarer / (rarer - 1)) * stdtrit(rarer - 1, tail)))
    low, high = np.quantile(values, [tail, 1 - tail])
    return Interval(float(low), float(np.mean(values)), float(high), rarer)


def resamples(rows: Rows, samples: int, rng: np.random.Generator) -> Iterator[Counts]:
    """Yield, `samples` times, how often each row is drawn (n,).

    Rows are drawn with replacement, separately within each class, so every resample has the same number of
    rows per class and every metric is defined. Of rows with units, whole units are drawn (Davison & Hinkley
    1997, section 3.8).
    """
    drawn, unit_of_row = classes(rows)
    strata = [np.flatnonzero(drawn == value) for value in np.unique(drawn)]
    for _ in range(samples):
        counts = np.zeros(len(drawn), dtype=np.int64)
        for members in strata:
            chosen = rng.integers(0, len(members), len(members))
            counts[members] = np.bincount(chosen, minlength=len(members))
        yield counts[unit_of_row]


def classes(rows: Rows) -> tuple[Labels, NDArray[np.int64]]:
    """Return the class of each unit, the highest of its rows, and the index of each row's unit.

    Without units, each row is one. All values of a regression count as one class.
    """
    labels = rows.labels
    known = np.zeros(len(labels), dtype=np.int64) if labels.dtype.kind == "f" else labels.astype(np.int64)
    if rows.units is None:
        return known, np.arange(len(labels))
    names, unit_of_row = np.unique(rows.units, return_inverse=True)
    highest = np.zeros(len(names), dtype=np.int64)
    np.maximum.at(highest, unit_of_row, known)
    return highest, unit_of_row
