"""How a fraud detector is judged: by the protocol of the Fraud Detection Handbook, chapters 4 and 5.

Investigators can check a number of cards a day, so what counts is how many of those are compromised. A card
that is known to be compromised is blocked, so the test leaves its later transactions out.
"""

from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field

from loop.core.params import RandomSplit, Section, TimeSplit
from loop.stats.evaluation import Evaluation, Metric, Rows
from loop.stats.metrics import by_rows


class Params(Section):
    top_k: int = Field(default=100, gt=0)  # cards that investigators check in a day
    known_days: int = Field(default=7, ge=0)  # a fraud up to so long before the delay makes its card known


def evaluation(params: Params) -> Evaluation:
    """Card precision beside the metrics of the task, on cards that nobody knows to be compromised."""
    precision = Metric(f"card_precision_at_{params.top_k}", by_rows(partial(card_precision, k=params.top_k)))
    leaves_out = partial(compromised, known_days=params.known_days)
    return Evaluation(metrics=(precision,), leaves_out=leaves_out, unit="CUSTOMER_ID")


def card_precision(rows: Rows, k: int) -> float:
    """Mean over days of the share of compromised cards among the k of highest score.

    A card scores as its highest transaction of the day, and once found it is blocked: later days leave it
    out. Equal scores go by card. Source: `card_precision_top_k` of the Fraud Detection Handbook, ch. 4.
    """
    cards = rows.column("CUSTOMER_ID")
    days = rows.column("TX_DATETIME").astype("datetime64[D]")
    found: NDArray[Any] = cards[:0]
    shares = []
    for day in np.unique(days):
        today = np.flatnonzero((days == day) & ~np.isin(cards, found))
        caught = _caught(rows.labels[today], rows.scores[today], cards[today], k)
        shares.append(len(caught) / k)
        found = np.concatenate([found, caught])
    return float(np.mean(shares))


def _caught(
    labels: NDArray[np.int64], scores: NDArray[np.float64], cards: NDArray[Any], k: int
) -> NDArray[Any]:
    """The compromised ones among a day's k most suspect cards."""
    names, position = np.unique(cards, return_inverse=True)
    highest = np.full(len(names), -np.inf)
    np.maximum.at(highest, position, scores)
    compromised = np.bincount(position, weights=labels, minlength=len(names)) > 0
    top = np.argsort(-highest, kind="stable")[:k]
    return names[top[compromised[top]]]


def compromised(table: pa.Table, split: TimeSplit | RandomSplit, known_days: int) -> NDArray[np.bool_]:
    """Rows of cards known to be compromised before the row's test day.

    A day's known cards are those with a fraud from `known_days` before the delay up to the delay before that
    day. The handbook trains on 7 days and calls the frauds in them known: 7 keeps its test.
    """
    out = np.zeros(table.num_rows, dtype=np.bool_)
    if isinstance(split, RandomSplit):
        return out
    time, cards = table["TX_DATETIME"].to_numpy(), table["CUSTOMER_ID"].to_numpy()
    fraud = pc.equal(table["TX_FRAUD"], 1).fill_null(False).to_numpy()
    begin = np.datetime64(split.until) - _days(split.test_days)
    oldest = begin - _days(split.delay_days + known_days)
    for day in range(split.test_days):
        first = begin + _days(day)
        reported = fraud & (oldest <= time) & (time < first - _days(split.delay_days))
        today = np.flatnonzero((first <= time) & (time < first + _days(1)))
        out[today] = np.isin(cards[today], cards[reported])
    return out


def _days(days: int) -> np.timedelta64:
    return np.timedelta64(days, "D")
