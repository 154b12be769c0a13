"""The suite of the fraud detector's folder stops bad data."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from frames import setting

from loop.core import models, params
from loop.core.models import ModelFolder
from loop.pipeline import validate
from models.fraud_detector.expectations import Params as Suite
from models.fraud_detector.expectations import suite
from models.fraud_detector.source import Params, simulate

pytestmark = pytest.mark.contract
SPLIT = params.TimeSplit(
    until="2018-05-01T00:00:00",  # type: ignore[arg-type]  # pydantic reads it
    train_days=14,
    delay_days=7,
    test_days=7,
)


@pytest.fixture(scope="module")
def folder(repository: Path) -> ModelFolder:
    return models.load(repository, "fraud_detector")


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    return simulate(Params(customers=100, terminals=1000, days=30))


def examined(frame: pd.DataFrame, folder: ModelFolder) -> validate.Report:
    table = pa.Table.from_pandas(frame, preserve_index=False)
    return validate.examine(table, suite(Suite(), SPLIT), folder.name, folder.roles)


BAD: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], str, str]] = {
    "a column is missing": (lambda t: t.drop(columns="TX_AMOUNT"), "ExpectTableColumnsToMatchSet", "(table)"),
    "a column too many": (lambda t: t.assign(note=1), "ExpectTableColumnsToMatchSet", "(table)"),
    "amounts are text": (
        lambda t: t.assign(TX_AMOUNT=t["TX_AMOUNT"].astype(str)),
        "ExpectColumnValuesToBeOfType",
        "TX_AMOUNT",
    ),
    "an amount is null": (setting("TX_AMOUNT", None), "ExpectColumnValuesToNotBeNull", "TX_AMOUNT"),
    "a customer is null": (setting("CUSTOMER_ID", None), "ExpectColumnValuesToNotBeNull", "CUSTOMER_ID"),
    "an amount is negative": (setting("TX_AMOUNT", -1.0), "ExpectColumnValuesToBeBetween", "TX_AMOUNT"),
    "amounts are in cents": (
        lambda t: t.assign(TX_AMOUNT=t["TX_AMOUNT"] * 100),
        "ExpectColumnMeanToBeBetween",
        "TX_AMOUNT",
    ),
    "an id comes twice": (setting("TRANSACTION_ID", 1), "ExpectColumnValuesToBeUnique", "TRANSACTION_ID"),
    "time runs backwards": (
        lambda t: t.iloc[::-1],
        "ExpectColumnValuesToBeIncreasing",
        "TX_DATETIME",
    ),
    "a time is null": (setting("TX_DATETIME", None), "ExpectColumnValuesToNotBeNull", "TX_DATETIME"),
    "a day is missing": (
        lambda t: t[t["TX_DATETIME"].dt.day != 12],
        "ExpectColumnValuesToBeBetween",
        "rows_over_median",
    ),
    "a day came twice": (
        lambda t: pd.concat([t, *[t[t["TX_DATETIME"].dt.day == 12]] * 2]).sort_values("TX_DATETIME"),
        "ExpectColumnValuesToBeBetween",
        "rows_over_median",
    ),
    "nothing is fraud": (lambda t: t.assign(TX_FRAUD=0), "ExpectColumnMeanToBeBetween", "TX_FRAUD"),
    "most is fraud": (setting("TX_FRAUD", 1, 3000), "ExpectColumnMeanToBeBetween", "TX_FRAUD"),
    "a label is a scenario": (setting("TX_FRAUD", 3), "ExpectColumnValuesToBeInSet", "TX_FRAUD"),
    "a scenario without fraud": (
        lambda t: t.assign(TX_FRAUD=t["TX_FRAUD"].where(t["TX_FRAUD_SCENARIO"] != 3, 0)),
        "ExpectColumnValuesToBeInSet",
        "TX_FRAUD",
    ),
    "the rows are stale": (
        lambda t: t[t["TX_DATETIME"] < t["TX_DATETIME"].max() - timedelta(days=3)],
        "ExpectColumnMaxToBeBetween",
        "TX_DATETIME",
    ),
    "the rows begin too late": (
        lambda t: t[t["TX_DATETIME"] > t["TX_DATETIME"].min() + timedelta(days=8)],
        "ExpectColumnMinToBeBetween",
        "TX_DATETIME",
    ),
}


@pytest.mark.parametrize(("spoil", "check", "column"), BAD.values(), ids=BAD)
def test_bad_data_is_stopped(
    spoil: Callable[[pd.DataFrame], pd.DataFrame],
    check: str,
    column: str,
    rows: pa.Table,
    folder: ModelFolder,
) -> None:
    """Each kind of bad data fails the critical check that is meant for it."""
    report = examined(spoil(rows.to_pandas()), folder)
    assert (check, column) in {(one.check, one.column) for one in report.critical}


def test_good_data_passes(rows: pa.Table, folder: ModelFolder) -> None:
    """The simulated world passes every check, with a score of 1 and the same findings each time."""
    report = validate.examine(rows, suite(Suite(), SPLIT), folder.name, folder.roles)
    assert (report.failed, report.score) == ([], 1.0)
    assert validate.examine(rows, suite(Suite(), SPLIT), folder.name, folder.roles) == report


def test_logged_rows_pass(rows: pa.Table, folder: ModelFolder) -> None:
    """Rows without a scenario pass, and so do labels that are unknown after the test window."""
    frame = rows.to_pandas()
    late = frame["TX_DATETIME"] >= SPLIT.until - timedelta(days=7)
    split = SPLIT.model_copy(update={"until": SPLIT.until - timedelta(days=7)})
    fraud = frame["TX_FRAUD"].astype("Int8").mask(late)
    table = pa.Table.from_pandas(frame.assign(TX_FRAUD=fraud, TX_FRAUD_SCENARIO=None), preserve_index=False)
    split = split.model_copy(update={"train_days": 7})
    assert validate.examine(table, suite(Suite(), split), folder.name, folder.roles).failed == []
