"""Validation stops bad data; data that is merely unusual lowers the score."""

import json
from collections.abc import Callable
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from frames import setting
from great_expectations import expectations as gx

from loop.core import models, params
from loop.core.errors import Exit, Rejected
from loop.core.html import POLICY
from loop.core.models import ModelFolder
from loop.core.project import Project
from loop.core.text import one_line, rounded_down
from loop.pipeline import validate
from models.card_fraud.expectations import Params as Suite
from models.card_fraud.expectations import suite
from models.card_fraud.source import Params, simulate

SPLIT = params.TimeSplit(
    until="2018-05-01T00:00:00",  # type: ignore[arg-type]  # pydantic reads it
    train_days=14,
    delay_days=7,
    test_days=7,
)


@pytest.fixture(scope="module")
def folder(template: Path) -> ModelFolder:
    return models.load(template, "card_fraud")


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    return simulate(Params(cards=100, days=30))


def examined(frame: pd.DataFrame, folder: ModelFolder) -> validate.Report:
    table = pa.Table.from_pandas(frame, preserve_index=False)
    return validate.examine(table, suite(Suite(), SPLIT), folder.name, folder.roles)


BAD: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], str, str]] = {
    "an amount is null": (setting("TX_AMOUNT", None), "ExpectColumnValuesToNotBeNull", "TX_AMOUNT"),
    "amounts are in cents": (
        lambda t: t.assign(TX_AMOUNT=t["TX_AMOUNT"] * 100),
        "ExpectColumnMeanToBeBetween",
        "TX_AMOUNT",
    ),
    "a day is missing": (
        lambda t: t[t["TX_DATETIME"].dt.day != 12],
        "ExpectColumnValuesToBeBetween",
        "rows_over_median",
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
    """Bad data fails the critical check that is meant for it: of a value, a column, or the rows a day."""
    report = examined(spoil(rows.to_pandas()), folder)
    assert (check, column) in {(one.check, one.column) for one in report.critical}


def test_good_data_passes(rows: pa.Table, folder: ModelFolder) -> None:
    """Good data passes with a score of 1, and with the same findings each time."""
    report = validate.examine(rows, suite(Suite(), SPLIT), folder.name, folder.roles)
    assert (report.failed, report.score) == ([], 1.0)
    assert validate.examine(rows, suite(Suite(), SPLIT), folder.name, folder.roles) == report


def test_score_is_the_mean_share_of_rows_that_pass(rows: pa.Table, folder: ModelFolder) -> None:
    """Absurd amounts do not stop the data, but lower the score of one check by their share of the rows."""
    report = examined(setting("TX_AMOUNT", 9_999.0, rows.num_rows // 50)(rows.to_pandas()), folder)
    scored = [one for one in report.findings if not one.critical]
    assert report.critical == []
    assert report.score == pytest.approx(1 - (rows.num_rows // 50 / rows.num_rows) / len(scored))
    [failed] = report.failed
    assert (failed.column, failed.unexpected, len(failed.examples)) == ("TX_AMOUNT", rows.num_rows // 50, 5)
    assert failed.examples[0] == {"TX_AMOUNT": 9_999.0, "TRANSACTION_ID": 0}


def test_a_low_score_rejects(clone: Path, capsys: pytest.CaptureFixture[str], rows: pa.Table) -> None:
    """A score under the threshold exits with 4, names the rows, and leaves its report for a person."""
    raw = clone / "data/card_fraud/raw.parquet"
    raw.parent.mkdir(parents=True)
    frame = setting("TX_AMOUNT", 9_999.0, rows.num_rows // 50)(rows.to_pandas())
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), raw)
    params.edit(clone, {"models.card_fraud.validate.quality": 0.999})
    with pytest.raises(Rejected, match=r"data_quality_score is 0\.98") as error:
        validate.main(Project(clone, "card-fraud"))
    assert error.value.exit == Exit.BLOCK
    assert "TRANSACTION_ID 4" in capsys.readouterr().err
    place = clone / "build/card_fraud/validation"
    quality = json.loads((place / "quality.json").read_text())
    assert [one["column"] for one in quality["failed"]] == ["TX_AMOUNT"]
    assert "9999" in (place / "data_docs/index.html").read_text()
    assert not (clone / "data/card_fraud/validation").exists()


def test_a_score_under_a_bound_looks_so() -> None:
    """A score is rounded down, so that one just under the bound 0.99 is not printed as 0.9900."""
    findings = [validate.Finding("C", "y", critical=False, passed=True, share=0.98996, unexpected=0)]
    assert validate._shown(validate.Report(0.98996, findings)) == [
        "0 of 1 checks failed, data_quality_score 0.9899"
    ]
    assert [rounded_down(share) for share in (0.9899, 0.57, 1.0)] == [0.9899, 0.57, 1.0]


def test_what_every_model_needs_is_checked_without_a_check_of_its_own() -> None:
    """A repeated id, a null in a role's column, and a label that is no class stop the data.

    The console names the classes. A null label stops nothing, because labels arrive late.
    """
    rows = pa.table({"id": ["a", None, "a"], "card": ["c", "c", None], "y": ["U", None, "A"]})
    roles = models.Roles(id="id", label="y", entity="card")
    report = validate.examine(rows, [], "m", roles, ("A", "N"))
    assert [(one.column, one.unexpected) for one in report.critical] == [
        ("id", 2),
        ("id", 1),
        ("card", 1),
        ("y", 1),
    ]
    shown = "ExpectColumnValuesToBeInSet of y (value_set A, N) stops the data, 1 rows: y U, id a"
    assert shown in validate._shown(report)[4]


def test_a_check_that_stops_the_data_is_named(
    clone: Path, rows: pa.Table, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error names the check, not the score, and the files from which checks are made."""
    raw = clone / "data/card_fraud/raw.parquet"
    raw.parent.mkdir(parents=True)
    frame = setting("TRANSACTION_ID", 1)(rows.to_pandas())
    for bad, said in (
        (frame, "ExpectColumnValuesToBeUnique of TRANSACTION_ID"),
        (setting("TX_AMOUNT", -1.0)(frame), "ExpectColumnValuesToBeBetween of TX_AMOUNT"),
    ):
        pq.write_table(pa.Table.from_pandas(bad, preserve_index=False), raw)
        with pytest.raises(Rejected, match=f"stopped by .*{said}") as error:
            validate.main(Project(clone, "card-fraud"))
        assert "src/models/card_fraud/expectations.py" in error.value.fix
        assert "schema.py" in error.value.fix
        assert "data_quality_score" not in str(error.value) + capsys.readouterr().err


HOSTILE = "<script src=https://evil.example/x.js></script><img src=x onerror=alert(1)>"


def test_a_value_stays_text_on_the_page(clone: Path) -> None:
    """A supplier's value or a column's name can neither run nor load anything in Data Docs."""
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


def test_bytes_of_a_wrong_row_are_counted() -> None:
    """An image in an example is shown as its number of bytes, because a person cannot read the bytes."""
    rows = pa.table({"id": [1, 2], "image": [b"x" * 2_000] * 2})
    twice = validate.Check(gx.ExpectColumnValuesToBeUnique(column="image"))
    [failed] = validate.examine(rows, [twice], "m", models.Roles(id="id", label="y")).failed
    assert failed.examples == [{"image": "2,000 bytes", "id": row} for row in (1, 2)]


def test_a_value_stays_text_on_the_console() -> None:
    """A supplier's value is printed on one line without control characters, so it cannot be a command.

    A long value is cut, so that the other rows are shown too.
    """
    values = ["a" * 3000, "\x1b]0;a\x07\n::b"]
    bad = gx.ExpectColumnValuesToBeInSet(column="y", value_set=["a"])
    rows = pa.table({"id": [1, 2], "y": values})
    report = validate.examine(rows, [validate.Check(bad)], "m", models.Roles(id="id", label="y"))
    shown = validate._shown(report)[1]
    assert f"rows: y {'a' * 498}; y {one_line(values[1])}, id 2" in shown


def tags(page: str) -> list[tuple[str, set[str]]]:
    """Return a page's elements and the names of their attributes, as a browser reads them."""
    found: list[tuple[str, set[str]]] = []
    reader = HTMLParser()
    reader.handle_starttag = lambda tag, attrs: found.append((tag, {name for name, _ in attrs}))  # type: ignore[method-assign]
    reader.feed(page)
    return found


def test_a_pass_leaves_quality_and_docs(clone: Path, rows: pa.Table) -> None:
    """Good rows leave quality.json and Data Docs, and delete the report of an earlier rejection."""
    data, stale = clone / "data/card_fraud", clone / "build/card_fraud/validation"
    for folder in (data, stale):
        folder.mkdir(parents=True)
    pq.write_table(rows, data / "raw.parquet")
    validate.main(Project(clone, "card-fraud"))
    quality = json.loads((data / "validation/quality.json").read_text())
    assert quality["data_quality_score"] == 1.0
    assert len(quality["passed"]) == quality["checks"]
    assert any(check["expected"].get("min_value") is not None for check in quality["passed"])
    assert "100.00 %" in (data / "validation/data_docs/index.html").read_text()
    assert not stale.exists()
