"""How far production's rows have moved from those the model was trained on."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from loop.core.files import read_json
from loop.stats.stability import psi

Floats = NDArray[np.float64]
Columns = Mapping[str, ArrayLike]  # by name; a pandas DataFrame is one

NUMBER = "wasserstein"  # earth mover's distance over the reference's standard deviation
FLAG = "psi"  # population stability index of the shares
FEW = 2  # values of a column, up to which they are flags
CHANCE = 0.01  # of a false alarm by sampling, all columns together


@dataclass(frozen=True)
class Drift:
    """One column's distance: 0 is none; 0.3 is much, in either test."""

    test: str
    score: float
    chance: float = 0.0  # that rows of one distribution differ so, times the columns looked at; at most 1

    @property
    def told(self) -> float:
        """The score; 0 where chance explains it."""
        return self.score if self.chance < CHANCE else 0.0


def seen(meta: Path) -> list[str]:
    """The names of what the log has of a row: the model's profile, or its features."""
    described = read_json(meta)
    return list(described.get("profile") or described["features"])


def drift(reference: Columns, current: Columns) -> dict[str, Drift]:
    """Measure each column of `reference`, (n,) numbers, against the same column of `current`, (m,).

    Numbers by the Wasserstein distance over the reference's standard deviation: it needs no bins, which ties
    (counts) and columns that are mostly zero (risks) would distort, and 0.3 reads as "moved by 0.3 standard
    deviations". Columns with one or two values by PSI, where 0.25 is the usual line for a major shift; so are
    columns of integers in `reference`, because these are codes of categories. Values are rounded to float32,
    as they are served, and measured in float64; those that are not finite are counted as missing, and the
    share of missing values is measured by PSI too. The greater distance is the score.
    `chance` is Kolmogorov and Smirnov's for numbers, chi-squared's for flags, by Bonferroni for many columns.
    """
    names = list(reference)
    return {
        name: _column(
            _served(reference[name]),
            _served(current[name]),
            len(names),
            coded=np.asarray(reference[name]).dtype.kind in "iu",
        )
        for name in names
    }


def least(one: dict[str, Drift], other: dict[str, Drift]) -> dict[str, Drift]:
    """What both say: for each column of `one`, the smaller distance and the greater chance."""
    return {
        name: Drift(d.test, min(d.told, other[name].told), max(d.chance, other[name].chance))
        for name, d in one.items()
        if name in other
    }


def _column(reference: Floats, current: Floats, columns: int, *, coded: bool) -> Drift:
    from scipy import stats  # here, as it takes long to import

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
        scale = np.abs(then).max()  # squares of very large and very small numbers leave float64's range
        distance = stats.wasserstein_distance(then / scale, now / scale) / np.std(then / scale)
        score = max(score, float(distance))
        chances.append(float(stats.ks_2samp(then, now, method="asymp").pvalue))
    tests = columns * (len(chances) - 1)
    return Drift(FLAG if flag else NUMBER, score, min(1.0, tests * min(chances)))


def _counts(column: Floats, bins: Floats) -> NDArray[np.int64]:
    """How many rows have each value of `bins`, then how many another one, and how many none."""
    finite = column[np.isfinite(column)]
    known = [np.count_nonzero(finite == value) for value in bins]
    return np.array([*known, len(finite) - sum(known), len(column) - len(finite)])


def _served(column: ArrayLike) -> Floats:
    """A column as a server reads it."""
    return np.asarray(column).astype(np.float32).astype(np.float64)
