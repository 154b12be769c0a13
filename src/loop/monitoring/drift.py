"""How far production's rows have moved from those the model was trained on."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

NUMBER = "wasserstein"  # earth mover's distance over the reference's standard deviation
FLAG = "psi"  # population stability index of the shares
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


def drift(reference: "pd.DataFrame", current: "pd.DataFrame") -> dict[str, Drift]:
    """Measure each column of `reference` against the same column of `current` with Evidently.

    Numbers by the normed Wasserstein distance: it needs no bins, which ties (counts) and columns that are
    mostly zero (risks) would distort, and 0.3 reads as "moved by 0.3 standard deviations". Columns with one
    or two values by PSI, where 0.25 is the usual line for a major shift. Both as float32, as they are served.
    `chance` is Kolmogorov and Smirnov's for numbers, chi-squared's for flags, by Bonferroni for many columns.
    """
    from evidently.legacy.calculations.stattests import psi_stat_test, wasserstein_stat_test
    from evidently.legacy.core import ColumnType

    reference, current = reference.astype("float32"), current[list(reference)].astype("float32")
    few = {name for name in reference if reference[name].nunique() <= 2}  # noqa: PLR2004 — yes and no
    found = {}
    for name in reference:  # the tests alone: a Report of them takes ten times as long to count other things
        test, kind = (psi_stat_test, "cat") if name in few else (wasserstein_stat_test, "num")
        score, _ = test.func(reference[name], current[name], ColumnType(kind), 0.0)
        named = FLAG if name in few else NUMBER
        chance = _chance(named, reference[name], current[name])
        found[name] = Drift(named, float(score), min(1.0, chance * reference.shape[1]))
    return found


def least(one: dict[str, Drift], other: dict[str, Drift]) -> dict[str, Drift]:
    """What both say: for each column of `one`, the smaller distance and the greater chance."""
    return {
        name: Drift(d.test, min(d.told, other[name].told), max(d.chance, other[name].chance))
        for name, d in one.items()
        if name in other
    }


def _chance(test: str, reference: "pd.Series", current: "pd.Series") -> float:
    from scipy import stats

    if test == NUMBER:
        return float(stats.ks_2samp(reference, current, method="asymp").pvalue)
    values = sorted({*reference.unique(), *current.unique()})
    table = [[int((side == value).sum()) for value in values] for side in (reference, current)]
    return float(stats.chi2_contingency(table).pvalue)
