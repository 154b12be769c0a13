"""Measures how far production's data has moved from the data that the model was trained on."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from loop.core.files import read_json
from loop.stats.stability import psi

Floats = NDArray[np.float64]
Columns = Mapping[str, ArrayLike]  # column name to values, such as a pandas DataFrame

NUMBER = "wasserstein"  # earth mover's distance, divided by the reference's standard deviation
FLAG = "psi"  # population stability index of the shares of each value
FEW = 2  # a column with at most this many distinct values is compared by PSI
CHANCE = 0.01  # accepted probability of a false alarm from sampling, over all columns together


@dataclass(frozen=True)
class Drift:
    """One column's distance from the reference; 0 means no drift, 0.3 means strong drift in either test."""

    test: str
    score: float
    chance: float = 0.0  # p-value of the distance, multiplied by the number of columns; at most 1

    @property
    def told(self) -> float:
        """The drift score, or 0 if sampling alone can explain the distance."""
        return self.score if self.chance < CHANCE else 0.0


def seen(meta: Path) -> list[str]:
    """Return the names of the logged values of a row: the model's profile, or its features."""
    described = read_json(meta)
    return list(described.get("profile") or described["features"])


def drift(reference: Columns, current: Columns) -> dict[str, Drift]:
    """Measure each column of `reference`, shape (n,), against the same column of `current`, shape (m,).

    Numbers use the Wasserstein distance divided by the reference's standard deviation. It needs no bins,
    which counts and mostly-zero columns would distort, and 0.3 reads as "moved by 0.3 standard deviations".
    Columns with one or two values use PSI, where 0.25 is the usual limit for a major shift, and so do integer
    columns of `reference`, because integers are category codes. Values are rounded to float32, as the server
    receives them. Values that are not finite count as missing; the share of missing values is measured by
    PSI, too, and the greater distance is the score. `chance` comes from the Kolmogorov-Smirnov test for
    numbers and the chi-squared test for flags, with Bonferroni's correction for the number of columns.
    """
    columns = len(list(reference))
    return {name: _column(reference[name], current[name], columns) for name in reference}


def least(one: dict[str, Drift], other: dict[str, Drift]) -> dict[str, Drift]:
    """Combine two comparisons: for each column of `one`, the smaller distance and the greater p-value."""
    return {
        name: Drift(d.test, min(d.told, other[name].told), max(d.chance, other[name].chance))
        for name, d in one.items()
        if name in other
    }


def _column(trained: ArrayLike, served: ArrayLike, columns: int) -> Drift:
    from scipy import stats  # scipy is imported only here, because the import is slow

    coded = np.asarray(trained).dtype.kind in "iu"
    reference, current = (np.asarray(side).astype(np.float32).astype(float) for side in (trained, served))
    then, now = reference[np.isfinite(reference)], current[np.isfinite(current)]
    values = np.unique(then)
    flag = coded or len(values) <= FEW
    bins = values if flag else values[:0]
    counts = [_counts(side, bins) for side in (reference, current)]
    score = psi(*(side.tolist() for side in counts))
    chances = [1.0]
    if (seen := np.sum(counts, axis=0) > 0).sum() > 1:
        chances.append(float(stats.chi2_contingency([side[seen] for side in counts]).pvalue))
    if not flag and len(now):
        score = max(score, float(stats.wasserstein_distance(then, now) / np.std(then)))
        chances.append(float(stats.ks_2samp(then, now, method="asymp").pvalue))
    tests = columns * (len(chances) - 1)
    return Drift(FLAG if flag else NUMBER, score, min(1.0, tests * min(chances)))


def _counts(column: Floats, bins: Floats) -> NDArray[np.int64]:
    """Return how many rows have each value of `bins`, any other value, and no value, in this order."""
    finite = column[np.isfinite(column)]
    known = [np.count_nonzero(finite == value) for value in bins]
    return np.array([*known, len(finite) - sum(known), len(column) - len(finite)])
