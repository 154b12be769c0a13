"""Decides which drift counts: of a whole week or of the last day, and only if main has not learned it."""

from typing import TYPE_CHECKING

from loop.monitoring.drift import Drift, drift, least
from loop.monitoring.log import Window

if TYPE_CHECKING:
    import pandas as pd


def counts(
    week: dict[str, Drift], reference: "pd.DataFrame", window: Window, min_rows: int
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
    of_day = calendar(window.rows[list(week)], window.days)
    names = [name for name in week if name not in of_day]
    day = least(drift(reference[names], last), drift(window.before[names], last))
    day = _unlearned(day, last, window, min_rows)
    return {name: max(score, day[name].told if name in day else 0.0) for name, score in found.items()}


def calendar(rows: "pd.DataFrame", days: "pd.Series") -> set[str]:
    """Return the columns that encode the day, such as a weekend flag: constant only within each day."""
    of_day = rows.groupby(days)
    first, last = of_day.min(), of_day.max()
    return {
        name for name in rows if (first[name] == last[name]).all() and first[name].min() < first[name].max()
    }


def _unlearned(
    found: dict[str, Drift], rows: "pd.DataFrame", window: Window, min_rows: int
) -> dict[str, Drift]:
    """Return per feature the smaller of two distances: `found`, and from rows before the last retraining."""
    if not found or len(window.learned) < min_rows:
        return found
    return least(found, drift(window.learned[list(found)], rows))
