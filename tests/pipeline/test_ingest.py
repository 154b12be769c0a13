"""Ingest: the pinned source, its schema, and what production logged since."""

import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import csv

from loop.core import models
from loop.core.errors import LoopError
from loop.core.files import sha256
from loop.core.models import ModelFolder
from loop.core.params import Ingest, Logged
from loop.pipeline import ingest
from models.fraud_detector.source import Params, simulate

pytestmark = pytest.mark.sample

SMALL = {"customers": 40, "terminals": 400, "days": 10}
START = datetime.fromisoformat("2018-04-01")


@pytest.fixture(scope="module")
def folder(repository: Path) -> ModelFolder:
    return models.load(repository, "fraud_detector")


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    return simulate(Params(**SMALL))


def pinned(path: Path) -> Ingest:
    return Ingest(source=str(path), sha256=sha256(path))


def written(table: pa.Table, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
    return path


def test_csv_and_parquet_are_one_table(rows: pa.Table, folder: ModelFolder, tmp_path: Path) -> None:
    """The same rows as Parquet or as CSV, in any order, ingest to the same table."""
    backwards = rows.take(pa.array(range(rows.num_rows))[::-1])
    csv.write_csv(backwards, tmp_path / "t.csv")
    for path in (written(backwards, tmp_path / "t.parquet"), tmp_path / "t.csv"):
        assert ingest.read(pinned(path), folder, tmp_path).equals(rows)


def test_a_url_is_read_by_fsspec(rows: pa.Table, folder: ModelFolder, tmp_path: Path) -> None:
    """A source with a scheme is fetched by fsspec and pinned like a file."""
    path = written(rows, tmp_path / "t.parquet")
    fsspec.filesystem("memory").pipe("/bucket/t.parquet", path.read_bytes())
    source = "memory://bucket/t.parquet"
    assert ingest.source_sha256(source, tmp_path) == sha256(path)
    assert ingest.read(Ingest(source=source, sha256=sha256(path)), folder, tmp_path).equals(rows)


@pytest.mark.parametrize("header", [b"\xff\xfe,TX_FRAUD", b"TX_FRAUD,TX_FRAUD"], ids=["latin", "twice"])
def test_names_of_columns_that_cannot_be_used(header: bytes, folder: ModelFolder, tmp_path: Path) -> None:
    """A name that is no text, and one that two columns share, are errors that name the file."""
    (path := tmp_path / "t.csv").write_bytes(header + b"\n1,2\n")
    with pytest.raises(LoopError, match=r"t\.csv: (a column's name|column TX_FRAUD: is there twice)"):
        ingest.read(pinned(path), folder, tmp_path)


def test_a_column_without_a_value_is_all_null(rows: pa.Table, folder: ModelFolder, tmp_path: Path) -> None:
    """Arrow gives such a column no type, and casts nothing back to that."""
    place = rows.column_names.index("TX_FRAUD")
    path = written(rows.set_column(place, "TX_FRAUD", pa.nulls(rows.num_rows)), tmp_path / "t.parquet")
    assert ingest.read(pinned(path), folder, tmp_path)["TX_FRAUD"].null_count == rows.num_rows


def test_other_bytes_than_the_pinned_are_refused(rows: pa.Table, folder: ModelFolder, tmp_path: Path) -> None:
    """A changed file is an error that names both hashes and the command that pins it anew."""
    path = written(rows, tmp_path / "t.parquet")
    with pytest.raises(LoopError) as error:
        ingest.read(Ingest(source=str(path), sha256="0" * 64), folder, tmp_path)
    assert all(word in str(error.value) for word in (sha256(path), "0" * 64, "./loop pin fraud_detector"))


@pytest.mark.parametrize("source", ["none.parquet", "memory://none.parquet", "rows.txt"])
def test_a_source_that_cannot_be_read_is_named(source: str, folder: ModelFolder, tmp_path: Path) -> None:
    """A missing file, a missing URL and an unknown format are errors that name the source and a fix."""
    (tmp_path / "rows.txt").touch()
    nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    with pytest.raises(LoopError, match=rf"{re.escape(source)}[\s\S]*fix:"):
        ingest.read(Ingest(source=source, sha256=nothing), folder, tmp_path)


BAD_COLUMNS: dict[str, tuple[str, list[Any] | None, str]] = {
    "missing": ("TX_AMOUNT", None, "found only"),
    "text for a number": ("TX_AMOUNT", ["12", "13"], "found string"),
    "a fraction for an id": ("TERMINAL_ID", [1.5, 2.0], "found double"),
    "an id too large": ("CUSTOMER_ID", [2**40, 1], "found int64"),
    "a number for a time": ("TX_DATETIME", [1, 2], "found int64"),
    "an id too large for a float": ("TX_AMOUNT", [2**53 + 1, 1], "found int64"),
}


@pytest.mark.parametrize(("column", "values", "found"), BAD_COLUMNS.values(), ids=BAD_COLUMNS)
def test_schema_errors_name_file_column_found_expected(
    column: str, values: list[Any] | None, found: str, rows: pa.Table, folder: ModelFolder
) -> None:
    """A column that is missing or cannot be cast without loss names file, column, found and expected."""
    place, two = rows.column_names.index(column), rows.slice(0, 2)
    bad = two.drop_columns(column) if values is None else two.set_column(place, column, pa.array(values))
    expected = rows.schema.field(column).type
    with pytest.raises(LoopError) as error:
        ingest.conform(bad, folder, "day-1.parquet")
    message = str(error.value)
    assert message.startswith(f"day-1.parquet: column {column}: {found}")
    assert f"expected {expected}" in message


@given(
    ids=st.lists(st.integers(0, 2**31 - 1), min_size=1),
    kind=st.sampled_from(["int64", "uint32", "float64"]),
    unit=st.sampled_from(["s", "ms", "ns"]),
)
def test_casts_that_lose_nothing_are_made(ids: list[int], kind: str, unit: str, folder: ModelFolder) -> None:
    """Wider integers, whole floats and other time units become the schema's types with the same values."""
    count = len(ids)
    table = pa.table(
        {
            "TRANSACTION_ID": pa.array(ids, kind),
            "TX_DATETIME": pa.array([START] * count, pa.timestamp(unit, tz="UTC")),
            "CUSTOMER_ID": pa.array(ids, kind),
            "TERMINAL_ID": pa.array(ids, kind).dictionary_encode(),
            "TX_AMOUNT": pa.array(ids, kind),
            "TX_FRAUD": pa.array([True] * count),
        }
    )
    cast = ingest.conform(table, folder, "t").to_pydict()
    assert cast["CUSTOMER_ID"] == cast["TERMINAL_ID"] == cast["TX_AMOUNT"] == cast["TRANSACTION_ID"] == ids
    assert cast["TX_DATETIME"] == [START] * count
    assert cast["TX_FRAUD"] == [1] * count
    assert cast["TX_FRAUD_SCENARIO"] == [None] * count


@pytest.fixture
def store(tmp_path: Path, rows: pa.Table) -> Path:
    """A store that logged days 6 to 10 (day 6 overlaps the source), labels reported two days late."""
    late = rows.filter(pc.field("TX_DATETIME") >= START + timedelta(days=5))
    day = pc.floor_temporal(late["TX_DATETIME"], unit="day")
    for n in range(5, 10):
        part = late.filter(pc.equal(day, pa.scalar(START + timedelta(days=n), pa.timestamp("us"))))
        written(
            part.drop_columns(["TX_FRAUD", "TX_FRAUD_SCENARIO"]), tmp_path / f"store/transactions/{n}.parquet"
        )
        reported = pc.add(part["TX_DATETIME"], pa.scalar(timedelta(days=2)))
        labels = part.select(["TRANSACTION_ID", "TX_FRAUD"]).append_column("reported_at", reported)
        written(labels, tmp_path / f"store/labels/{n}.parquet")
    return tmp_path / "store"


def logged(store: Path, until: datetime) -> Ingest:
    return Ingest(simulator={**SMALL, "days": 6}, logged=Logged(store=str(store), until=until))


def test_log_continues_the_source(store: Path, rows: pa.Table, folder: ModelFolder, tmp_path: Path) -> None:
    """Logged rows before `until` follow the source's, each id once, and the source's labels stand."""
    until = START + timedelta(days=9)
    table = ingest.read(logged(store, until), folder, tmp_path)
    expected = rows.filter(pc.field("TX_DATETIME") < until)
    bare = ["TX_FRAUD", "TX_FRAUD_SCENARIO"]
    assert table.drop_columns(bare).equals(expected.drop_columns(bare).combine_chunks())
    source = simulate(Params(**{**SMALL, "days": 6})).num_rows
    assert table[:source].equals(rows[:source])


def test_a_label_counts_from_its_report_on(
    store: Path, rows: pa.Table, folder: ModelFolder, tmp_path: Path
) -> None:
    """A logged row's label is known when it was reported by `until`, and null otherwise."""
    until, begins = START + timedelta(days=9), START + timedelta(days=6)
    truth = dict(zip(*(rows[name].to_pylist() for name in ("TRANSACTION_ID", "TX_FRAUD")), strict=True))
    new = ingest.read(logged(store, until), folder, tmp_path).filter(pc.field("TX_DATETIME") >= begins)
    for row in new.to_pylist():
        known = row["TX_DATETIME"] + timedelta(days=2) <= until
        assert row["TX_FRAUD"] == (truth[row["TRANSACTION_ID"]] if known else None)


def test_the_latest_report_holds(store: Path, folder: ModelFolder, tmp_path: Path) -> None:
    """Of two reports by `until` the later one is a row's label; one that came after does not count."""
    until, begins = START + timedelta(days=9), START + timedelta(days=6)
    table = ingest.read(logged(store, until), folder, tmp_path)
    row = table.filter(pc.field("TX_DATETIME") >= begins).slice(0, 1).to_pylist()[0]
    right, wrong = 1 - row["TX_FRAUD"], row["TX_FRAUD"]
    reports = {"a": (right, until), "b": (wrong, until + timedelta(seconds=1))}
    for name, (label, at) in reports.items():
        report = {"TRANSACTION_ID": [row["TRANSACTION_ID"]], "TX_FRAUD": [label], "reported_at": [at]}
        written(pa.table(report), store / f"labels/{name}.parquet")
    again = ingest.read(logged(store, until), folder, tmp_path)
    assert again.filter(pc.field("TRANSACTION_ID") == row["TRANSACTION_ID"])["TX_FRAUD"].to_pylist() == [
        right
    ]


def test_an_empty_store_is_an_error(folder: ModelFolder, tmp_path: Path) -> None:
    """A store without transactions names the place and the key."""
    with pytest.raises(LoopError, match=r"transactions: holds no \*\.parquet[\s\S]*ingest\.logged\.store"):
        ingest.read(logged(tmp_path / "none", START), folder, tmp_path)


def test_same_params_are_same_bytes(clone: Path) -> None:
    """`main` writes raw.parquet whole, and again the same bytes."""
    raw = clone / "data/fraud_detector/raw.parquet"
    ingest.main(clone, "fraud-detector")
    first = sha256(raw)
    raw.unlink()
    ingest.main(clone, "fraud-detector")
    assert sha256(raw) == first
    assert [path.name for path in raw.parent.iterdir()] == ["raw.parquet"]
