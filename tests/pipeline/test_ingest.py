"""Ingest reads the pinned source in the schema's types, and adds what production has logged since."""

import dataclasses
import hashlib
import pickle
import re
import zipfile
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from folders import with_modules
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import csv

from loop.core import models
from loop.core.errors import LoopError
from loop.core.files import sha256
from loop.core.models import ModelFolder
from loop.core.params import Ingest, Logged
from loop.core.project import Project
from loop.pipeline import files, ingest
from loop.pipeline import source as sources
from loop.pipeline import store as stores
from loop.pipeline.files import File, Wanted
from models.card_fraud.schema import COLUMNS
from models.card_fraud.source import Params, simulate

SMALL = {"cards": 40, "days": 10}
START = datetime.fromisoformat("2018-04-01")


@pytest.fixture(scope="module")
def folder(template: Path) -> ModelFolder:
    return models.load(template, "card_fraud")


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    return simulate(Params(**SMALL))


def read(wanted: Ingest, folder: ModelFolder, root: Path) -> pa.Table:
    return pa.concat_tables(ingest.rows(wanted, folder, root)).combine_chunks()


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
        assert read(pinned(path), folder, tmp_path).equals(rows)


def test_a_url_is_read_by_fsspec(rows: pa.Table, folder: ModelFolder, tmp_path: Path) -> None:
    """A source with a scheme is fetched by fsspec and pinned like a file."""
    path = written(rows, tmp_path / "t.parquet")
    fsspec.filesystem("memory").pipe("/bucket/t.parquet", path.read_bytes())
    source = "memory://bucket/t.parquet"
    assert sources.source_sha256([source], tmp_path) == sha256(path)
    assert read(Ingest(source=source, sha256=sha256(path)), folder, tmp_path).equals(rows)


def hive(rows: pa.Table, place: Path) -> str:
    """Write a folder for each day and label, as Hive and Spark do; the schema has no column `day`."""
    days = rows.append_column("day", rows["TX_DATETIME"].cast(pa.date32(), safe=False))
    by = ds.partitioning(pa.schema([days.schema.field(name) for name in ("day", "TX_FRAUD")]), flavor="hive")
    ds.write_dataset(days, place / "all", format="parquet", partitioning=by, max_partitions=2_000)
    return "all"


def spark(rows: pa.Table, place: Path) -> str:
    """Write a folder with a file's name, which has parts, a success marker, and files of a killed task."""
    half = rows.num_rows // 2
    for number, part in enumerate((rows.slice(0, half), rows.slice(half))):
        written(part, place / f"all.parquet/part-0000{number}.snappy.parquet")
    (place / "all.parquet/_SUCCESS").touch()
    (place / "all.parquet/_temporary").mkdir()
    (place / "all.parquet/_temporary/part-00002.snappy.parquet").write_bytes(b"half")
    return "all.parquet"


def pattern(rows: pa.Table, place: Path) -> str:
    """Write two CSV files that a pattern matches, and a file that it does not match."""
    half = rows.num_rows // 2
    csv.write_csv(rows.slice(0, half), place / "day-1.csv")
    csv.write_csv(rows.slice(half), place / "day-2.csv")
    (place / "notes.txt").write_text("not meant")
    return "day-*.csv"


def floats(rows: pa.Table, place: Path) -> str:
    """Write whole numbers as floats, as pandas does with gaps, and times with an offset."""
    frame = rows.to_pandas()
    frame["CUSTOMER_ID"] = frame["CUSTOMER_ID"].astype(float)
    frame["TX_DATETIME"] = frame["TX_DATETIME"].dt.tz_localize("UTC").dt.tz_convert("America/New_York")
    frame.to_csv(place / "t.csv", index=False)
    return "t.csv"


def decimals(rows: pa.Table, place: Path) -> str:
    """Write amounts as decimals, as banks do; the nearest float of 0.57 is not 57 times that of 0.01."""
    exact = rows["TX_AMOUNT"].cast(pa.string()).cast(pa.decimal128(12, 2))
    at = rows.column_names.index("TX_AMOUNT")
    written(rows.set_column(at, "TX_AMOUNT", exact), place / "t.parquet")
    return "t.parquet"


@pytest.mark.parametrize("write", [hive, spark, pattern, floats, decimals])
@pytest.mark.parametrize("where", ["disk", "bucket"])
def test_sources_as_people_have_them(
    write: Callable[[pa.Table, Path], str], where: str, rows: pa.Table, folder: ModelFolder, tmp_path: Path
) -> None:
    """Folders, patterns and other types give the same table, pinned by all bytes, even in a bucket."""
    (tmp_path / "in").mkdir()
    source = str(tmp_path / "in" / write(rows, tmp_path / "in"))
    if where == "bucket":
        memory = fsspec.filesystem("memory")
        memory.rm("/in", recursive=True) if memory.exists("/in") else None
        memory.put(str(tmp_path / "in"), "/in", recursive=True)
        source = f"memory://in{source.removeprefix(str(tmp_path / 'in'))}"
    pin = sources.source_sha256([source], tmp_path)
    table = read(Ingest(source=source, sha256=pin), folder, tmp_path)
    assert table.equals(rows)
    if write is hive:
        assert pin != sources.source_sha256([f"{source}/day=2018-04-01"], tmp_path)


def column(name: str, kind: str, content: str, place: Path, below: str = "t.csv") -> list[Any]:
    """Return the values that are read from a column of a CSV file."""
    path = place / below
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    wanted = Wanted({name: pa.type_for_alias(kind)}, frozenset(), "the test")
    [table] = File(str(path), str(path), below).batches(wanted)
    return table[name].to_pylist()


def test_text_stays_text(tmp_path: Path) -> None:
    """An id keeps its leading zeros, in a column or a folder's name; NA is text, an empty cell is null."""
    assert column("id", "string", "id,x\n007,1\nNA,2\n,3\n", tmp_path) == ["007", "NA", None]
    assert column("id", "string", "x\n1\n", tmp_path, "id=007/t.csv") == ["007"]
    assert column("x", "float64", "id,x\n007,1\nNA,NA\n,\n", tmp_path) == [1.0, None, None]


@pytest.mark.parametrize(
    ("name", "values", "row"),
    [
        ("TX_AMOUNT", ["1.5", "ten"], 2),
        ("TERMINAL_ID", ["7.0", "8", "7.5"], 3),
        ("TRANSACTION_ID", ["9007199254740993.0"], 1),
        ("TX_DATETIME", ["2018-04-01", "2018-04-01T00:00:00Z", "1.4.2018"], 3),
    ],
    ids=["number", "fraction", "too large", "time"],
)
def test_text_that_is_no_such_value(name: str, values: list[str], row: int, tmp_path: Path) -> None:
    """If a CSV value does not fit its type, the error names file, column, value, row and type."""
    kind = COLUMNS[name]
    said = f"t.csv: column {name}: found {values[-1]!r} in row {row}, expected {kind}"
    with pytest.raises(LoopError, match=re.escape(said)):
        column(name, kind, "\n".join([name, *values, *values]), tmp_path)


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_a_source_without_rows_is_refused(
    name: str, rows: pa.Table, folder: ModelFolder, tmp_path: Path
) -> None:
    """A file with only a header is an error that names it, so no later stage gets an empty table."""
    empty = rows.slice(0, 0)
    csv.write_csv(empty, tmp_path / name) if name == "t.csv" else written(empty, tmp_path / name)
    with pytest.raises(LoopError, match=rf"{name}: has no rows"):
        read(pinned(tmp_path / name), folder, tmp_path)


HEADER = b"id,tenure,churned\n"
ODD = {
    "empty": ("t.csv", b"", "is empty, expected the names of columns, then rows"),
    "blank": ("t.csv", b"\n\n", "is empty"),
    "a column twice": ("t.csv", b"id,id\n1,2\n", "column id: occurs twice, expected once"),
    "a name in Latin-1": ("t.csv", b"id,\xe4\n1,2\n", "a column name is not UTF-8"),
    "a value in Latin-1": ("t.csv", HEADER + b"1,2,0\n" * 200_000 + b"\xe4,2,0\n", "line 200002: is not UTF"),
    "a line too short": ("t.csv", HEADER + b"1,2,0\n1,2\n", "line 3: has 2 values, expected 3"),
    "semicolons": ("t.csv", HEADER.replace(b",", b";") + b"1;2;0\n", "contains ';', expected commas"),
    "semicolons and decimal commas": ("t.csv", b"id;tenure\n1;2,5\n", "line 2 has a comma, but the column"),
    "two columns without a name": ("t.csv", b"id,,\n1,2,0\n", "two columns have no name"),
    "UTF-16": ("t.csv", HEADER.decode().encode("utf-16"), "found text in UTF-16, expected CSV in UTF-8"),
    "Excel": ("t.csv", b"PK\x03\x04more", "found an Excel workbook or another ZIP archive, expected CSV"),
    "an old Excel": ("t.csv", b"\xd0\xcf\x11\xe0more", "found an Excel workbook, expected CSV"),
    "Parquet as CSV": ("t.csv", b"PAR1more", "found Parquet, expected CSV"),
    "gzip as CSV": ("t.csv", b"\x1f\x8b\x08\x00more", "found gzip, expected CSV"),
    "random bytes": ("t.csv", bytes(range(1, 256)), "found bytes that are not text, expected CSV"),
    "UTF-16 without its mark": (
        "t.csv",
        HEADER.decode().encode("utf-16-le"),
        "found bytes that are not text",
    ),
    "CSV as Parquet": ("t.parquet", HEADER, "found text, expected Parquet"),
}


@pytest.mark.parametrize(("name", "content", "said"), ODD.values(), ids=ODD)
def test_a_file_that_is_no_table_is_told_in_our_words(
    name: str, content: bytes, said: str, tmp_path: Path
) -> None:
    """The error names the file, what was found and expected, and a fix, without any library's message."""
    (path := tmp_path / name).write_bytes(content)
    with pytest.raises(LoopError) as error:
        read(pinned(path), shop(tmp_path, ""), tmp_path)
    message = str(error.value)
    assert f"{name}: " in message
    assert said in message
    assert error.value.fix
    assert not re.search("Arrow|codec|pandas|Invalid", message)


def test_a_type_that_arrow_does_not_have_is_named(folder: ModelFolder) -> None:
    """Whatever loads the schema's types says which column has an unknown one, instead of a traceback."""
    schema = type("schema", (), {"COLUMNS": {"day": "date"}, "ROLES": folder.roles})
    with pytest.raises(LoopError, match=r"schema\.py: COLUMNS: day is 'date', no type of Arrow"):
        ingest.schema_of(with_modules(folder, schema=schema))


def test_a_column_without_a_value_is_all_null(rows: pa.Table, folder: ModelFolder, tmp_path: Path) -> None:
    """A column without any value is read as nulls, although Arrow cannot infer its type."""
    place = rows.column_names.index("TX_FRAUD")
    path = written(rows.set_column(place, "TX_FRAUD", pa.nulls(rows.num_rows)), tmp_path / "t.parquet")
    assert read(pinned(path), folder, tmp_path)["TX_FRAUD"].null_count == rows.num_rows


def test_other_bytes_than_the_pinned_are_refused(rows: pa.Table, folder: ModelFolder, tmp_path: Path) -> None:
    """A changed file is an error that names both hashes, and the command that pins the file again."""
    path = written(rows, tmp_path / "t.parquet")
    with pytest.raises(LoopError) as error:
        read(Ingest(source=str(path), sha256="0" * 64), folder, tmp_path)
    assert all(word in str(error.value) for word in (sha256(path), "0" * 64, "./loop pin card_fraud"))


def shop(tmp_path: Path, code: str) -> ModelFolder:
    """Return a model of three columns with this code as its source module."""
    place = tmp_path / "src" / "models" / f"shop_{abs(hash(code))}"
    place.mkdir(parents=True)
    columns = {"id": "int64", "tenure": "float64", "churned": "int8"}
    schema = f"from loop.core.models import Roles\nCOLUMNS = {columns}\nTASK = 'binary'\n"
    (place / "schema.py").write_text(schema + "ROLES = Roles(id='id', label='churned')\n")
    (place / "source.py").write_text(code)
    return models.load(tmp_path, place.name)


OWN = """
import pyarrow as pa
import pyarrow.compute as pc

def columns(rows):
    yes = pc.equal(rows["Churn"], "Yes").cast(pa.int8())
    return pa.table({"id": rows["no"], "tenure": rows["Tenure (months)"], "churned": yes})
"""
THEIRS = pa.table({"no": [7, 8, 9], "Tenure (months)": [1.0, None, 24.0], "Churn": ["No", "Yes", "No"]})


@pytest.mark.parametrize("form", ["csv", "parquet", "pkl", "pkl.xz"])
def test_a_teams_own_columns_become_the_schemas(tmp_path: Path, form: str) -> None:
    """A file may keep its names, strings and gaps; the model's `columns` maps them to the schema."""
    path = tmp_path / f"rows.{form}"
    if form == "csv":
        csv.write_csv(THEIRS, path)
    elif form == "parquet":
        pq.write_table(THEIRS, path)
    else:
        THEIRS.to_pandas().to_pickle(path)
    found = read(pinned(path), shop(tmp_path, OWN), tmp_path)
    assert found.to_pydict() == {"id": [7, 8, 9], "tenure": [1.0, None, 24.0], "churned": [0, 1, 0]}
    assert found.schema.types == [pa.int64(), pa.float64(), pa.int8()]


@pytest.mark.parametrize("kind", ["large_string()", "string_view()", "dictionary(pa.int8(), pa.string())"])
def test_text_of_any_kind_is_parsed(tmp_path: Path, kind: str) -> None:
    """`columns` may return text as pyarrow, pandas' categories or Polars make it; it is parsed like CSV."""
    csv.write_csv(THEIRS, path := tmp_path / "rows.csv")
    code = OWN.replace('rows["no"]', f'rows["no"].cast(pa.{kind})')
    assert read(pinned(path), shop(tmp_path, code), tmp_path)["id"].to_pylist() == [7, 8, 9]


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    """A Parquet file with a name twice is an error in our words, also if the schema has no such column."""
    names = ["id", "tenure", "churned", "more", "more"]
    table = pa.Table.from_arrays([pa.array([1])] * 5, names)
    with pytest.raises(LoopError, match=r"t\.parquet: two columns have the same name"):
        read(pinned(written(table, tmp_path / "t.parquet")), shop(tmp_path, ""), tmp_path)


def test_a_column_that_columns_drops_is_named_with_the_function(tmp_path: Path) -> None:
    """If the model's `columns` drops a column, the error names the function as its place."""
    pq.write_table(pa.table({"id": [7], "tenure": [1.0], "churned": [0]}), path := tmp_path / "t.parquet")
    code = "def columns(rows):\n    return rows.drop(['tenure'])\n"
    said = r"source\.py: `columns`: column tenure: is missing from id, churned"
    with pytest.raises(LoopError, match=said):
        read(pinned(path), shop(tmp_path, code), tmp_path)


READ = """
import pyarrow as pa

def read(files):
    for name, path in files.items():
        ids = [int(line) for line in path.read_text().split()]
        yield pa.table({"id": ids, "tenure": [None] * len(ids), "churned": [name.endswith(".1")] * len(ids)})
"""


def test_a_model_reads_files_of_its_own_format(tmp_path: Path) -> None:
    """Several places are one source with one pin; `read` gets their files by the names in params.yaml."""
    (tmp_path / "more").mkdir()
    for name, ids in (("stayed.0", "7 9"), ("more/left.1", "8")):
        (tmp_path / name).write_text(ids)
    places = ("stayed.0", "more")
    wanted = Ingest(source=places, sha256=sources.source_sha256(places, tmp_path))
    found = read(wanted, folder := shop(tmp_path, READ), tmp_path)
    assert found.to_pydict() == {"id": [7, 8, 9], "tenure": [None] * 3, "churned": [0, 1, 0]}
    listed = "".join(f"{sha256(tmp_path / at)}  {at}\n" for at in ("stayed.0", "more/left.1"))
    assert wanted.sha256 == hashlib.sha256(listed.encode()).hexdigest()
    (tmp_path / "more/left.1").write_text("10")
    with pytest.raises(LoopError, match="SHA-256 is"):
        read(wanted, folder, tmp_path)


def test_a_source_has_one_way_to_be_read(tmp_path: Path) -> None:
    """If `read` and `columns` are both defined, one would be ignored, so it is an error with a fix."""
    both = shop(tmp_path, READ + OWN)
    with pytest.raises(LoopError, match=r"source\.py: defines `read` and `columns`[\s\S]*fix: call"):
        read(Ingest(source="rows.csv", sha256="0" * 64), both, tmp_path)


def test_without_a_simulator_a_file_has_to_be_named(tmp_path: Path) -> None:
    """With an empty source module, the default source is an error that says what to run."""
    with pytest.raises(LoopError, match=r"source\.py defines no function `simulate`") as error:
        read(Ingest(), shop(tmp_path, ""), tmp_path)
    assert "./loop pin" in error.value.fix


def test_only_pinned_bytes_are_unpickled(tmp_path: Path) -> None:
    """A pickle runs code, so a pickle in a store, which is not pinned, is refused without reading it."""

    class Trap:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[str, ...]]:
            return Path.touch, (tmp_path / "sprung",)

    path = tmp_path / "rows.pkl"
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(LoopError, match="neither Parquet nor CSV"):
        list(File(str(path), str(path)).batches(Wanted({"id": pa.int64()}, frozenset(), "it")))
    assert not (tmp_path / "sprung").exists()
    path.write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(LoopError, match=r"rows\.pkl: column id: is missing"):
        read(pinned(path), shop(tmp_path, ""), tmp_path)


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make a package index with one wheel, and return the URL of the data set in the wheel."""
    (index := tmp_path / "index").mkdir()
    with zipfile.ZipFile(index / "tables-1.0-py3-none-any.whl", "w") as made:
        made.writestr("tables/data/shop.csv", "id,tenure,churned\n7,1.5,0\n")
        made.writestr("tables-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tables\nVersion: 1.0\n")
        made.writestr("tables-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        made.writestr("tables-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    return "pypi://tables==1.0/tables/data/shop.csv"


def test_a_file_of_a_package_is_a_source(tmp_path: Path, wheel: str) -> None:
    """A package's file is read from the wheel and pinned by its own bytes; the package is not installed."""
    sha256 = sources.source_sha256([wheel], tmp_path)
    found = read(Ingest(source=wheel, sha256=sha256), shop(tmp_path, ""), tmp_path)
    assert found.to_pydict() == {"id": [7], "tenure": [1.5], "churned": [0]}
    for other, said in {
        wheel.replace("shop", "shops"): "such as tables/data/shop.csv",
        wheel.replace("1.0", "2.0"): "pip cannot fetch a wheel of tables==2.0",
        "pypi://tables/tables/data/shop.csv": "<package>==<version>/<path>",
    }.items():
        with pytest.raises(LoopError) as error:
            sources.source_sha256([other], tmp_path)
        assert said in str(error.value)


def test_a_damaged_file_is_to_be_written_again(rows: pa.Table, folder: ModelFolder, tmp_path: Path) -> None:
    """Of a Parquet file that was cut off, the error names the file and what to write in its place."""
    written(rows, path := tmp_path / "t.parquet")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(LoopError, match=r"t\.parquet: cannot be read: [\s\S]*fix: .*as Parquet or CSV"):
        read(pinned(path), folder, tmp_path)


@pytest.mark.parametrize("source", ["none.parquet", "memory://none.parquet", "rows.txt"])
def test_a_source_that_cannot_be_read_is_named(source: str, folder: ModelFolder, tmp_path: Path) -> None:
    """A missing file, a missing URL and an unknown format are errors that name the source and a fix."""
    (tmp_path / "rows.txt").touch()
    nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    with pytest.raises(LoopError, match=rf"{re.escape(source)}[\s\S]*fix:"):
        read(Ingest(source=source, sha256=nothing), folder, tmp_path)


BAD_COLUMNS: dict[str, tuple[str, list[Any] | None, str]] = {
    "missing": ("TX_AMOUNT", None, "is missing from"),
    "text for a number": ("TX_AMOUNT", ["12", "13"], "found string"),
    "a fraction for an id": ("TERMINAL_ID", [1.5, 2.0], "found float64"),
    "lists for a number": ("TERMINAL_ID", [[1.5], [2.0]], "found list<float64>"),
    "an id too large": ("CUSTOMER_ID", [2**40, 1], "found int64"),
    "a number for a time": ("TX_DATETIME", [1, 2], "found int64"),
    "an id too large for a float": ("TX_AMOUNT", [2**53 + 1, 1], "found int64"),
}


@pytest.mark.parametrize(("column", "values", "found"), BAD_COLUMNS.values(), ids=BAD_COLUMNS)
def test_schema_errors_name_file_column_found_expected(
    column: str, values: list[Any] | None, found: str, rows: pa.Table, folder: ModelFolder
) -> None:
    """If a column is missing or a cast would lose values, the error has file, column, found and expected."""
    place, two = rows.column_names.index(column), rows.slice(0, 2)
    bad = two.drop_columns(column) if values is None else two.set_column(place, column, pa.array(values))
    expected = COLUMNS[column]  # in the schema's own word: float64, not Arrow's double
    with pytest.raises(LoopError) as error:
        files.typed(bad, ingest.schema_of(folder), "day-1.parquet")
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
    cast = files.typed(table, ingest.schema_of(folder), "t").to_pydict()
    assert cast["CUSTOMER_ID"] == cast["TERMINAL_ID"] == cast["TX_AMOUNT"] == cast["TRANSACTION_ID"] == ids
    assert cast["TX_DATETIME"] == [START] * count
    assert cast["TX_FRAUD"] == [1] * count
    assert cast["TX_FRAUD_SCENARIO"] == [None] * count


@pytest.fixture
def store(tmp_path: Path, rows: pa.Table) -> Path:
    """Make a store with the rows of days 6 to 10 (the source has day 6, too) and labels two days later."""
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
    """Return a source of six days, with the store as it is listed now."""
    sha256 = stores.pin(Project(store.parent, "card_fraud"), str(store), until, anew=True)
    return Ingest(simulator={**SMALL, "days": 6}, logged=Logged(store=str(store), until=until, sha256=sha256))


def test_log_continues_the_source(store: Path, rows: pa.Table, folder: ModelFolder, tmp_path: Path) -> None:
    """Logged rows before `until` follow the source's rows, with each id once and the source's labels kept."""
    until = START + timedelta(days=9)
    table = read(logged(store, until), folder, tmp_path)
    expected = rows.filter(pc.field("TX_DATETIME") < until)
    bare = ["TX_FRAUD", "TX_FRAUD_SCENARIO"]
    assert table.drop_columns(bare).equals(expected.drop_columns(bare).combine_chunks())
    source = simulate(Params(**{**SMALL, "days": 6})).num_rows
    assert table[:source].equals(rows[:source])


def test_rows_without_time_count_as_they_arrive(
    store: Path, rows: pa.Table, folder: ModelFolder, tmp_path: Path
) -> None:
    """Without a time column, all rows of the listed files are read, with the labels reported by `until`."""
    roles = dataclasses.replace(folder.roles, time=None)
    schema = type("schema", (), {"ROLES": roles, "COLUMNS": COLUMNS, "__name__": "schema"})
    timeless = with_modules(folder, schema=schema)
    wanted = logged(store, START + timedelta(days=9))
    written(rows[:5], store / "transactions/later.parquet")
    table = read(wanted, timeless, tmp_path)
    assert table["TRANSACTION_ID"].to_pylist() == rows["TRANSACTION_ID"].to_pylist()
    late = pc.field("TX_DATETIME") >= START + timedelta(days=7)
    assert table.filter(late)["TX_FRAUD"].null_count == table.filter(late).num_rows


def test_a_label_counts_from_its_report_on(
    store: Path, rows: pa.Table, folder: ModelFolder, tmp_path: Path
) -> None:
    """A logged row has its label if it was reported by `until`, and null otherwise."""
    until, begins = START + timedelta(days=9), START + timedelta(days=6)
    truth = dict(zip(*(rows[name].to_pylist() for name in ("TRANSACTION_ID", "TX_FRAUD")), strict=True))
    new = read(logged(store, until), folder, tmp_path).filter(pc.field("TX_DATETIME") >= begins)
    for row in new.to_pylist():
        known = row["TX_DATETIME"] + timedelta(days=2) <= until
        assert row["TX_FRAUD"] == (truth[row["TRANSACTION_ID"]] if known else None)


def test_the_latest_report_holds(store: Path, folder: ModelFolder, tmp_path: Path) -> None:
    """Of two reports by `until`, the later one is the row's label; a report after `until` does not count."""
    until, begins = START + timedelta(days=9), START + timedelta(days=6)
    table = read(logged(store, until), folder, tmp_path)
    row = table.filter(pc.field("TX_DATETIME") >= begins).slice(0, 1).to_pylist()[0]
    right, wrong = 1 - row["TX_FRAUD"], row["TX_FRAUD"]
    reports = {"a": (right, until), "b": (wrong, until + timedelta(seconds=1))}
    for name, (label, at) in reports.items():
        report = {"TRANSACTION_ID": [row["TRANSACTION_ID"]], "TX_FRAUD": [label], "reported_at": [at]}
        written(pa.table(report), store / f"labels/{name}.parquet")
    again = read(logged(store, until), folder, tmp_path)
    assert again.filter(pc.field("TRANSACTION_ID") == row["TRANSACTION_ID"])["TX_FRAUD"].to_pylist() == [
        right
    ]


def labels(store: Path, name: str, *reports: tuple[int, int | None, datetime]) -> None:
    """Write a file of reports (id, label, time)."""
    ids, known, times = zip(*reports, strict=True)
    table = pa.table({"TRANSACTION_ID": ids, "TX_FRAUD": pa.array(known, pa.int8()), "reported_at": times})
    written(table, store / f"labels/{name}.parquet")


def test_the_last_report_wins_and_a_null_one_says_nothing(
    store: Path, rows: pa.Table, folder: ModelFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A later report replaces the source's label and earlier reports; one without a label is ignored."""
    until = START + timedelta(days=9)
    first, second = rows["TRANSACTION_ID"][0].as_py(), rows["TRANSACTION_ID"][1].as_py()
    ours = dict(zip(rows["TRANSACTION_ID"].to_pylist(), rows["TX_FRAUD"].to_pylist(), strict=True))
    here, berlin = pa.scalar(until, pa.timestamp("us", "UTC")), timezone(timedelta(hours=2))
    labels(store, "x", (first, 1 - ours[first], until - timedelta(days=1)), (10**9, 1, until))
    labels(store, "y", (first, None, until), (second, ours[second], until - timedelta(days=2)))
    labels(store, "z", (second, 1 - ours[second], here.as_py().astimezone(berlin)))
    table = read(logged(store, until), folder, tmp_path)
    got = dict(zip(table["TRANSACTION_ID"].to_pylist(), table["TX_FRAUD"].to_pylist(), strict=True))
    assert (got[first], got[second]) == (1 - ours[first], 1 - ours[second])
    said = capsys.readouterr().out
    assert "a later report changed an earlier label of 1, and the source's label of 2" in said
    assert "1 reports without a label were ignored; 1 match no row here" in said


def test_what_reaches_the_store_later_changes_nothing(
    store: Path, rows: pa.Table, folder: ModelFolder, tmp_path: Path
) -> None:
    """Rows, reports and half-written files that come after the list is made wait for the next `pin`."""
    until = START + timedelta(days=9)
    wanted = logged(store, until)
    before = read(wanted, folder, tmp_path)
    late = rows.slice(rows.num_rows - 1, 1).to_pylist()[0]
    late |= {"TRANSACTION_ID": 10**9, "TX_DATETIME": until - timedelta(hours=1)}
    written(pa.Table.from_pylist([late], rows.schema), store / "transactions/0-late.parquet")
    labels(store, "late", (before["TRANSACTION_ID"][0].as_py(), 1, until - timedelta(hours=1)))
    (store / "transactions/_temporary").mkdir()
    (store / "transactions/_temporary/0.parquet").write_bytes(b"half")
    assert read(wanted, folder, tmp_path).equals(before)
    stores.pin(Project(tmp_path, "card_fraud"), str(store), until, anew=False)
    assert read(wanted, folder, tmp_path).equals(before)
    assert read(logged(store, until), folder, tmp_path).num_rows == before.num_rows + 1


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("gone", r"transactions/7\.parquet: is missing, expected"),
        ("other", r"transactions/7\.parquet: has 4 bytes, expected"),
        ("unpinned", r"ingest\.logged has no sha256[\s\S]*\./loop pin"),
        ("moved", r"logged\.json: lists another store or time"),
        ("edited", r"logged\.json: SHA-256 is"),
        ("lost", r"logged\.json: does not exist"),
    ],
)
def test_a_list_that_does_not_fit(
    fault: str, says: str, store: Path, folder: ModelFolder, tmp_path: Path
) -> None:
    """A listed file that is missing or changed, or a list that is not the pinned one, is an error."""
    wanted, list_of = logged(store, START + timedelta(days=9)), Project(tmp_path, "card_fraud").logged
    match fault:
        case "gone":
            (store / "transactions/7.parquet").unlink()
        case "other":
            (store / "transactions/7.parquet").write_bytes(b"PAR1")
        case "unpinned":
            wanted = wanted.model_copy(update={"logged": Logged(store=str(store), until=START)})
        case "moved":
            earlier = wanted.logged.model_copy(update={"until": START})
            wanted = wanted.model_copy(update={"logged": earlier})
        case "edited":
            list_of.write_text("{}")
        case "lost":
            list_of.unlink()
    with pytest.raises(LoopError, match=says):
        read(wanted, folder, tmp_path)


def test_a_row_in_two_files(
    store: Path, folder: ModelFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same row in two files counts once; if it differs, the error names the files, row and column."""
    until = START + timedelta(days=10)
    before = read(logged(store, until), folder, tmp_path)
    day = pq.read_table(store / "transactions/8.parquet")
    again = written(day.slice(0, 3), store / "transactions/again.parquet")
    assert read(logged(store, until), folder, tmp_path).equals(before)
    assert "3 that another file has too" in capsys.readouterr().out
    place = day.column_names.index("TX_AMOUNT")
    other = day.slice(2, 1).set_column(place, "TX_AMOUNT", pa.array([1e6]))
    other = written(other, store / "transactions/0.parquet")
    again.unlink()
    said = (
        f"{other} and {store}/transactions/8.parquet: rows contradict each other: "
        f"where TRANSACTION_ID is {day['TRANSACTION_ID'][2].as_py()}, TX_AMOUNT differs"
    )
    with pytest.raises(LoopError, match=re.escape(said)):
        read(logged(store, until), folder, tmp_path)


def test_no_more_is_read_than_is_needed(
    store: Path, rows: pa.Table, folder: ModelFolder, tmp_path: Path
) -> None:
    """Columns that the schema lacks are not read, so even broken bytes in them do no harm."""
    until = START + timedelta(days=6)
    expected = read(logged(store, until), folder, tmp_path)
    path = store / "transactions/5.parquet"
    day = pq.read_table(path)
    more = pa.array(np.random.default_rng(0).random(day.num_rows))
    pq.write_table(day.append_column("more", more), path, use_dictionary=False)
    content, column = (
        bytearray(path.read_bytes()),
        pq.read_metadata(path).row_group(0).column(day.num_columns),
    )
    begin, size = column.data_page_offset, column.total_compressed_size
    content[begin : begin + size] = bytes(size)
    path.write_bytes(content)
    assert read(logged(store, until), folder, tmp_path).equals(expected)


def test_the_memory_is_bounded_and_the_order_stays(
    store: Path, folder: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows come in groups of a fixed size, whatever batches the files have, and in the same order."""
    wanted = logged(store, START + timedelta(days=9))
    whole = read(wanted, folder, tmp_path)
    monkeypatch.setattr(files, "ROWS", 64)
    monkeypatch.setattr(ingest, "GROUP", 100)
    parts = list(ingest.rows(wanted, folder, tmp_path))
    assert {part.num_rows for part in parts[:-1]} == {100}
    assert pa.concat_tables(parts).combine_chunks().equals(whole)


def test_an_empty_store_is_an_error(tmp_path: Path) -> None:
    """A store without transactions is an error that names the place and the key."""
    with pytest.raises(LoopError, match=r"transactions: has no \*\.parquet[\s\S]*ingest\.logged\.store"):
        stores.pin(Project(tmp_path, "card_fraud"), str(tmp_path / "none"), START, anew=True)


def test_same_params_are_same_bytes(clone: Path) -> None:
    """`main` writes raw.parquet whole, and with the same bytes each time."""
    raw = clone / "data/card_fraud/raw.parquet"
    ingest.main(Project(clone, "card-fraud"))
    first = sha256(raw)
    raw.unlink()
    ingest.main(Project(clone, "card-fraud"))
    assert sha256(raw) == first
    assert [path.name for path in raw.parent.iterdir()] == ["raw.parquet"]
