"""Which drift counts: a whole week's, or a day's that is new; and none that main already learned."""

from typing import TYPE_CHECKING

from loop.monitoring.drift import Drift, drift, least
from loop.monitoring.log import Window

if TYPE_CHECKING:
    import pandas as pd


def counts(
    week: dict[str, Drift], reference: "pd.DataFrame", window: Window, min_rows: int
) -> dict[str, float]:
    """Each feature's distance that counts: the week's, or the last day's where that is greater.

    The last 24 hours count by as much as they are far from training and from the same hours a week earlier,
    so that no weekend rings and a change of yesterday does. After a retraining, what counts must be far from
    the last day before it as well: one drift rings once, though the new reference holds little of it.
    `week` is the window's distance from `reference`; a day of fewer than `min_rows` says nothing.
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
    """Columns that say the day, such as a flag for weekends: one value in each, and not the same in all."""
    of_day = rows.groupby(days)
    first, last = of_day.min(), of_day.max()
    return {
        name for name in rows if (first[name] == last[name]).all() and first[name].min() < first[name].max()
    }


def _unlearned(
    found: dict[str, Drift], rows: "pd.DataFrame", window: Window, min_rows: int
) -> dict[str, Drift]:
    """What is far as well from how production was when main was last retrained."""
    if not found or len(window.learned) < min_rows:
        return found
    return least(found, drift(window.learned[list(found)], rows))
