"""A fraud detector is evaluated as in the Fraud Detection Handbook."""

from datetime import UTC, datetime
from functools import partial

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.core.params import TimeSplit
from loop.pipeline.split import masks
from loop.stats.evaluation import Rows
from models.fraud_detector.evaluation import Params, card_precision, compromised, evaluation
from models.fraud_detector.schema import ROLES

pytestmark = [pytest.mark.contract, pytest.mark.sample]

SPLIT = TimeSplit(until=datetime(2018, 8, 15, tzinfo=UTC), train_days=10, delay_days=7, test_days=7)
ROWS = st.lists(
    st.tuples(st.integers(0, 30 * 24 - 1), st.integers(0, 5), st.sampled_from([0, 0, 1, None])), max_size=60
)


def precision(labels: list[int], scores: list[float], cards: list[int], days: list[int], k: int) -> float:
    times = np.datetime64("2018-08-08", "us") + np.array(days, dtype="timedelta64[D]")
    columns = pa.table({ROLES.entity: cards, ROLES.time: times})
    return card_precision(Rows(np.array(labels), np.array(scores), columns=columns), k)


def test_a_card_is_found_once() -> None:
    """A compromised card that was found is blocked, so on the next day the next most suspect card counts."""
    assert precision([1, 0, 1, 1], [0.9, 0.1, 0.9, 0.2], [1, 2, 1, 2], [1, 1, 2, 2], k=1) == 1.0


def test_a_card_counts_by_its_worst_transaction() -> None:
    """A compromised card is found by its most suspect transaction of the day, even if that one is genuine."""
    assert precision([1, 0, 0], [0.1, 0.9, 0.5], [7, 7, 8], [0, 0, 0], k=1) == 1.0


def test_fewer_cards_than_checks() -> None:
    """Card precision is the share of the k possible checks, even if fewer cards have paid."""
    assert precision([1], [0.9], [1], [1], k=100) == 0.01


def test_card_precision_is_named_by_its_k() -> None:
    """The name of the metric has k, which is a parameter, so that floors can name it."""
    (metric,) = evaluation(Params(top_k=5)).metrics
    assert metric.name == "card_precision_at_5"


def judged(rows: list[tuple[int, int, int | None]], known_days: int) -> list[int]:
    """Return the positions of the tested rows; a row is (hours since 2018-07-20, card, label)."""
    hours, cards, labels = zip(*rows, strict=True) if rows else ((), (), ())
    times = np.datetime64("2018-07-20", "us") + np.array(hours, dtype="timedelta64[h]")
    table = pa.table({
        ROLES.id: pa.array(range(len(rows)), pa.int64()),
        ROLES.time: pa.array(times, pa.timestamp("us")),
        ROLES.entity: pa.array(cards, pa.int32()),
        ROLES.label: pa.array(labels, pa.int8()),
    })  # fmt: skip
    out = partial(compromised, known_days=known_days)(table, SPLIT)
    return np.flatnonzero(masks(table, ROLES, SPLIT)[1] & ~out).tolist()


def handbook(rows: list[tuple[int, int, int | None]]) -> list[int]:
    """Return the handbook's test rows (`get_train_test_set`), day by day, with training from 07-25."""
    begin, test = 5, []
    daily = [(hour // 24, card, label) for hour, card, label in rows]
    known = {card for day, card, label in daily if label == 1 and begin <= day < begin + 7}
    for offset in range(7):
        known |= {card for day, card, label in daily if label == 1 and day == begin + 7 + offset - 1}
        test += [
            position
            for position, (day, card, label) in enumerate(daily)
            if day == begin + 14 + offset and card not in known and label is not None
        ]
    return sorted(test)


@given(ROWS)
def test_test_rows_are_the_handbooks(rows: list[tuple[int, int, int | None]]) -> None:
    """The test week leaves out the same cards as the handbook's own loop."""
    assert judged(rows, 7) == handbook(rows)


def test_a_card_is_left_out_from_the_day_its_fraud_is_known() -> None:
    """A fraud of 08-02 is known on 08-10, but not on 08-09; one from before `known_days` does not count."""
    rows = [(13 * 24, 1, 1), (20 * 24, 1, 0), (21 * 24, 1, 0), (4 * 24, 2, 1), (19 * 24, 2, 0)]
    assert judged(rows, 7) == [1, 4]
    assert judged(rows, known_days=10) == [1]
