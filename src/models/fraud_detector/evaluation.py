"""Evaluates a fraud detector by the protocol of the Fraud Detection Handbook, chapters 4 and 5.

Investigators can check a limited number of cards a day, so the metric is how many of these are compromised. A
card known to be compromised is blocked, so its later transactions are left out of the test.
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
    top_k: int = Field(default=100, gt=0)  # number of cards that investigators check in a day
    # a fraud at most this many days before the delay makes its card known
    known_days: int = Field(default=7, ge=0)


def evaluation(params: Params) -> Evaluation:
    """Add card precision to the task's metrics, and leave out cards that are known to be compromised."""
    precision = Metric(f"card_precision_at_{params.top_k}", by_rows(partial(card_precision, k=params.top_k)))
    leaves_out = partial(compromised, known_days=params.known_days)
    return Evaluation(metrics=(precision,), leaves_out=leaves_out, unit="CUSTOMER_ID")


def card_precision(rows: Rows, k: int) -> float:
    """Mean over days of the share of compromised cards among the k cards with the highest scores.

    A card's score is the highest score of its transactions on that day. A card that was found is blocked, so
    later days leave it out. Equal scores are ordered by card. Source: `card_precision_top_k` of the Fraud
    Detection Handbook, chapter 4.
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
    """Return the compromised cards among a day's k cards with the highest scores."""
    names, position = np.unique(cards, return_inverse=True)
    highest = np.full(len(names), -np.inf)
    np.maximum.at(highest, position, scores)
    compromised = np.bincount(position, weights=labels, minlength=len(names)) > 0
    top = np.argsort(-highest, kind="stable")[:k]
    return names[top[compromised[top]]]


def compromised(table: pa.Table, split: TimeSplit | RandomSplit, known_days: int) -> NDArray[np.bool_]:
    """Return a mask of rows whose card was known to be compromised before the row's test day.

    On each test day, a card is known if it had a fraud in the period from `known_days` before the delay until
    the delay before that day. The handbook counts the frauds of its 7 training days as known, so 7 gives the
    handbook's test.
    """
    out = np.zeros(table.num_rows, dtype=np.bool_)
    if isinstance(split, RandomSplit):
        return out
    time, cards = table["TX_DATETIME"].to_numpy(), table["CUSTOMER_ID"].to_numpy()
    fraud = pc.equal(table["TX_FRAUD"], 1).fill_null(False).to_numpy()
    day = np.timedelta64(1, "D")
    begin = np.datetime64(split.until) - split.test_days * day
    oldest = begin - (split.delay_days + known_days) * day
    for first in begin + np.arange(split.test_days) * day:
        reported = fraud & (oldest <= time) & (time < first - split.delay_days * day)
        today = np.flatnonzero((first <= time) & (time < first + day))
        out[today] = np.isin(cards[today], cards[reported])
    return out
