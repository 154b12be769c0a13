"""Measures how far production's data has moved from the data that the model was trained on.

`counts` decides which drift counts: of a whole week or of the last day, and only if main has not learned it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from loop.core.files import read_json
from loop.stats.stability import psi

if TYPE_CHECKING:
    import pandas as pd

    from loop.monitoring.log import Window

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
    counts = [_histogram(side, bins) for side in (reference, current)]
    score = psi(*(side.tolist() for side in counts))
    chances = [1.0]
    if (seen := np.sum(counts, axis=0) > 0).sum() > 1:
        chances.append(float(stats.chi2_contingency([side[seen] for side in counts]).pvalue))
    if not flag and len(now):
        score = max(score, float(stats.wasserstein_distance(then, now) / np.std(then)))
        chances.append(float(stats.ks_2samp(then, now, method="asymp").pvalue))
    tests = columns * (len(chances) - 1)
    return Drift(FLAG if flag else NUMBER, score, min(1.0, tests * min(chances)))


def _histogram(column: Floats, bins: Floats) -> NDArray[np.int64]:
    """Return how many rows have each value of `bins`, any other value, and no value, in this order."""
    finite = column[np.isfinite(column)]
    known = [np.count_nonzero(finite == value) for value in bins]
    return np.array([*known, len(finite) - sum(known), len(column) - len(finite)])


def counts(
    week: dict[str, Drift], reference: "pd.DataFrame", window: "Window", min_rows: int
) -> dict[str, float]:
    """Return each feature's distance that counts: the week's, or the last day's if that is greater.

    The last 24 hours count only as far as they differ both from training and from the same hours a week
    earlier, so that a weekend raises no alarm but a change of yesterday does. After a retraining, a distance
    counts only as far as it also differs from the day before that retraining, so that one drift raises one
    alarm even though the new reference contains little of it. `week` is the window's distance from
    `reference`; a day of fewer than `min_rows` rows is ignored.
    """
    found = {name: d.told for name, d in _unlearned(week, window.rows, window, min_rows).items()}
    last = window.rows[window.last]
    if min(len(last), len(window.before)) < min_rows:
        return found
    of_day = _calendar(window.rows[list(week)], window.days)
    names = [name for name in week if name not in of_day]
    day = least(drift(reference[names], last), drift(window.before[names], last))
    day = _unlearned(day, last, window, min_rows)
    return {name: max(score, day[name].told if name in day else 0.0) for name, score in found.items()}


def _calendar(rows: "pd.DataFrame", days: "pd.Series") -> set[str]:
    """Return the columns that encode the day, such as a weekend flag: constant only within each day."""
    of_day = rows.groupby(days)
    first, last = of_day.min(), of_day.max()
    return {
        name for name in rows if (first[name] == last[name]).all() and first[name].min() < first[name].max()
    }


def _unlearned(
    found: dict[str, Drift], rows: "pd.DataFrame", window: "Window", min_rows: int
) -> dict[str, Drift]:
    """Return per feature the smaller of two distances: `found`, and from rows before the last retraining."""
    if not found or len(window.learned) < min_rows:
        return found
    return least(found, drift(window.learned[list(found)], rows))
