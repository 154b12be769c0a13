"""The simulated world follows from its seed, grows day by day, and resembles the published data."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.fraud_detector.schema import COLUMNS
from models.fraud_detector.source import BURST, DAY, Params, simulate

pytestmark = [pytest.mark.contract, pytest.mark.sample]
SMALL = {"customers": 40, "terminals": 400, "days": 12}
few = settings(max_examples=15)


def before(table: pa.Table, day: int) -> pa.Table:
    start = pa.scalar(Params().start, pa.date32()).cast(pa.timestamp("us"))
    return table.filter(pc.less(pc.seconds_between(start, table["TX_DATETIME"]), day * DAY))


def world(**changes: Any) -> pa.Table:
    return simulate(Params(**{**SMALL, **changes}))


@few
@given(seed=st.integers(0, 2**32), days=st.integers(1, 12), more=st.integers(1, 12))
def test_longer_world_continues_a_shorter_one(seed: int, days: int, more: int) -> None:
    """A world of more days has the same earlier rows with the same ids."""
    assert before(world(seed=seed, days=days + more), days).equals(world(seed=seed, days=days))


@few
@given(
    seed=st.integers(0, 2**32),
    day=st.integers(0, 12),
    amounts=st.floats(0.1, 10),
    pattern=st.integers(0, 5),
)
def test_drift_changes_nothing_before_its_day(seed: int, day: int, amounts: float, pattern: int) -> None:
    """Rows before `from_day` are the same with and without drift."""
    drift = {"from_day": day, "amounts": amounts, "new_pattern": pattern}
    assert before(world(seed=seed, drift=drift), day).equals(before(world(seed=seed), day))


def test_a_seed_is_a_world() -> None:
    """The same seed gives the same table, and another seed gives another table."""
    assert world(seed=1).equals(world(seed=1))
    assert not world(seed=1).equals(world(seed=2))


def test_columns_are_the_schema() -> None:
    """Columns, types and order are those of schema.COLUMNS, and the rows are sorted by time."""
    table = world()
    assert {field.name: field.type for field in table.schema} == {
        name: pa.type_for_alias(kind) for name, kind in COLUMNS.items()
    }
    assert table.equals(table.sort_by([("TX_DATETIME", "ascending"), ("TRANSACTION_ID", "ascending")]))


def test_prices_rise_and_labels_stay() -> None:
    """`amounts` multiplies every amount from its day on, and changes no label."""
    plain, dear = world(), world(drift={"from_day": 5, "amounts": 3.0})
    start = before(plain, 5).num_rows
    assert dear.drop_columns("TX_AMOUNT").equals(plain.drop_columns("TX_AMOUNT"))
    ratio = pc.divide(pc.sum(dear["TX_AMOUNT"][start:]), pc.sum(plain["TX_AMOUNT"][start:])).as_py()
    assert abs(ratio - 3) < 1e-3


def test_new_pattern_is_small_nightly_bursts() -> None:
    """Each day, `new_pattern` cards make a burst of small payments at night, all fraud of scenario 4."""
    new = world(drift={"from_day": 5, "new_pattern": 2}).filter(pc.field("TX_FRAUD_SCENARIO") == 4)
    assert new.num_rows == 2 * BURST * (SMALL["days"] - 5)
    assert pc.max(pc.hour(new["TX_DATETIME"])).as_py() < 5
    assert pc.max(new["TX_AMOUNT"]).as_py() <= 5
    assert pc.all(pc.equal(new["TX_FRAUD"], 1)).as_py()


def test_default_world_is_the_published_one() -> None:
    """Rows a day, fraud rate, mean amount and rows of each scenario are near those of the published data."""
    table = simulate(Params(days=100))
    kinds = {
        pair["values"]: pair["counts"] / 100 for pair in table["TX_FRAUD_SCENARIO"].value_counts().to_pylist()
    }
    assert table.num_rows / 100 == pytest.approx(9_587, rel=0.03)
    assert pc.mean(table["TX_FRAUD"]).as_py() == pytest.approx(0.0082, rel=0.15)
    assert pc.mean(table["TX_AMOUNT"]).as_py() == pytest.approx(53.6, rel=0.04)
    assert [kinds[kind] for kind in (1, 2, 3)] == pytest.approx([5.3, 48.0, 25.1], rel=0.35)
