"""Validate: ten and more kinds of bad data are each stopped; what is merely odd lowers the score."""

import json
from collections.abc import Callable
from datetime import timedelta
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from great_expectations import expectations as gx
from rich.console import Console

from loop.core import models, params
from loop.core.errors import Exit, Rejected
from loop.core.html import POLICY
from loop.core.models import ModelFolder
from loop.core.text import one_line
from loop.pipeline import validate
from models.fraud_detector.expectations import Params as Suite
from models.fraud_detector.expectations import suite
from models.fraud_detector.source import Params, simulate

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


def setting(column: str, value: object, count: int = 1) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """Put `value` into the first `count` rows of a column."""

    def change(frame: pd.DataFrame) -> pd.DataFrame:
        values = frame[column].astype(object)
        values.iloc[:count] = value
        return frame.assign(**{column: values.infer_objects()})

    return change


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


@pytest.mark.contract
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


@pytest.mark.contract
def test_good_data_passes(rows: pa.Table, folder: ModelFolder) -> None:
    """The simulated world passes every check, with a score of 1 and the same findings each time."""
    report = validate.examine(rows, suite(Suite(), SPLIT), folder.name, folder.roles)
    assert (report.failed, report.score) == ([], 1.0)
    assert validate.examine(rows, suite(Suite(), SPLIT), folder.name, folder.roles) == report


@pytest.mark.contract
def test_logged_rows_pass(rows: pa.Table, folder: ModelFolder) -> None:
    """Rows without a scenario, and labels unknown after the test window, are as they should be."""
    frame = rows.to_pandas()
    late = frame["TX_DATETIME"] >= SPLIT.until - timedelta(days=7)
    split = SPLIT.model_copy(update={"until": SPLIT.until - timedelta(days=7)})
    fraud = frame["TX_FRAUD"].astype("Int8").mask(late)
    table = pa.Table.from_pandas(frame.assign(TX_FRAUD=fraud, TX_FRAUD_SCENARIO=None), preserve_index=False)
    split = split.model_copy(update={"train_days": 7})
    assert validate.examine(table, suite(Suite(), split), folder.name, folder.roles).failed == []


@pytest.mark.contract
def test_score_is_the_mean_share_of_rows_that_pass(rows: pa.Table, folder: ModelFolder) -> None:
    """Absurd amounts stop nothing by themselves: they take their share off one of the scored checks."""
    report = examined(setting("TX_AMOUNT", 9_999.0, rows.num_rows // 50)(rows.to_pandas()), folder)
    scored = [one for one in report.findings if not one.critical]
    assert report.critical == []
    assert report.score == pytest.approx(1 - (rows.num_rows // 50 / rows.num_rows) / len(scored))
    [failed] = report.failed
    assert (failed.column, failed.unexpected, len(failed.examples)) == ("TX_AMOUNT", rows.num_rows // 50, 5)
    assert failed.examples[0] == {"TX_AMOUNT": 9_999.0, "TRANSACTION_ID": 0}


def test_a_low_score_rejects(clone: Path, capsys: pytest.CaptureFixture[str], rows: pa.Table) -> None:
    """A score under the threshold exits 4, names the rows, and leaves its report where a person can look."""
    raw = clone / "data/fraud_detector/raw.parquet"
    raw.parent.mkdir(parents=True)
    frame = setting("TX_AMOUNT", 9_999.0, rows.num_rows // 50)(rows.to_pandas())
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), raw)
    params.edit(clone, {"models.fraud_detector.validate.quality": 0.999})
    with pytest.raises(Rejected, match=r"data_quality_score is 0\.99") as error:
        validate.main(clone, "fraud-detector")
    assert error.value.exit == Exit.BLOCK
    assert "TRANSACTION_ID 4" in capsys.readouterr().err
    place = clone / "build/fraud_detector/validation"
    quality = json.loads((place / "quality.json").read_text())
    assert [one["column"] for one in quality["failed"]] == ["TX_AMOUNT"]
    assert "9999" in (place / "data_docs/index.html").read_text()
    assert not (clone / "data/fraud_detector/validation").exists()


HOSTILE = "<script src=https://evil.example/x.js></script><img src=x onerror=alert(1)>"


def test_a_value_stays_text_on_the_page(clone: Path) -> None:
    """A supplier's value and a column's name run nothing in Data Docs, which fetch nothing either."""
    bad = gx.ExpectColumnValuesToBeInSet(column=HOSTILE, value_set=["</small><script>"])
    rows = pa.table({"id": [HOSTILE], HOSTILE: [HOSTILE]})
    roles = models.Roles(id="id", label="y")
    report = validate.examine(rows, [validate.Check(bad)], "m", roles)
    validate._write(report, clone / "page", 1.0, 1, "m")
    page = (clone / "page/data_docs/index.html").read_text()
    assert [one.examples for one in report.failed] == [[{HOSTILE: HOSTILE, "id": HOSTILE}]]
    assert str(POLICY) in page
    assert HOSTILE in unescape(page)
    assert not {tag for tag, _ in tags(page)} & {"script", "img", "link", "iframe", "object", "base", "svg"}
    assert not [name for _, names in tags(page) for name in names if name.startswith(("on", "src", "href"))]


@pytest.mark.parametrize("value", ["[/]", "[/a]b", "[link=//evil.example]a[/link]", "\x1b]0;a\x07\n::b"])
def test_a_value_stays_text_on_the_console(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A supplier's value is no tag of Rich's, which would end the stage, nor a terminal's command."""
    bad = gx.ExpectColumnValuesToBeInSet(column="y", value_set=["a"])
    rows = pa.table({"id": [1], "y": [value]})
    report = validate.examine(rows, [validate.Check(bad)], "m", models.Roles(id="id", label="y"))
    Console(stderr=True, width=200).print(*validate._shown(report), highlight=False)
    assert f"y {one_line(value)}" in capsys.readouterr().err


def tags(page: str) -> list[tuple[str, set[str]]]:
    """A page's elements and the names of their attributes, as a browser reads them."""
    found: list[tuple[str, set[str]]] = []
    reader = HTMLParser()
    reader.handle_starttag = lambda tag, attrs: found.append((tag, {name for name, _ in attrs}))  # type: ignore[method-assign]
    reader.feed(page)
    return found


def test_a_pass_leaves_quality_and_docs(clone: Path, rows: pa.Table) -> None:
    """Good rows leave quality.json and Data Docs, and take an earlier rejection's report away."""
    data, stale = clone / "data/fraud_detector", clone / "build/fraud_detector/validation"
    for folder in (data, stale):
        folder.mkdir(parents=True)
    pq.write_table(rows, data / "raw.parquet")
    validate.main(clone, "fraud-detector")
    quality = json.loads((data / "validation/quality.json").read_text())
    assert quality["data_quality_score"] == 1.0
    assert len(quality["passed"]) == quality["checks"]
    assert any(check["expected"].get("min_value") is not None for check in quality["passed"])
    assert "100.00 %" in (data / "validation/data_docs/index.html").read_text()
    assert not stale.exists()
