"""Reads a data set's files in batches, in the types that the schema asks for.

Parquet files have types, which are cast only if no value changes. CSV files have none, so each column is read
as text and parsed as the schema's type; a type guessed from the first rows could fail later. A pickled pandas
DataFrame is read only if its bytes are pinned by SHA-256, because unpickling runs code.
"""

import gzip
import re
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from pyarrow import csv, types

from loop.core.errors import LoopError
from loop.core.remote import reaching

SUFFIXES = (".parquet", ".csv", ".csv.gz")
PICKLE = re.compile(r"\.(pkl|pickle)(\.\w+)?$")
PACKED = {b"\xfd7zXZ": "xz", b"\x1f\x8b": "gzip", b"BZh": "bz2"}  # compressions by a file's first bytes
# Other formats by the first bytes of a file. A name says only what a file should be.
FOREIGN = {
    b"PK\x03\x04": "an Excel workbook or another ZIP archive",
    b"\xd0\xcf\x11\xe0": "an Excel workbook",
    b"\xff\xfe": "text in UTF-16",
    b"\xfe\xff": "text in UTF-16",
    b"PAR1": "Parquet",
    b"\x1f\x8b": "gzip",
}
FLOATS = {"halffloat": "float16", "float": "float32", "double": "float64"}  # Arrow's words, and a schema's
EMPTY = "is empty, expected the names of columns, then rows"
REWRITE = "check the job that wrote it, or name another ingest.source in params.yaml"
COMMAS = "save it as CSV with commas between columns and points in numbers, or as Parquet"
UTF_8 = "save it in UTF-8, as spreadsheets offer, or convert it: iconv -f WINDOWS-1252 -t UTF-8"
# Arrow's error for a file, the fault of the file in our words, and how to correct it.
FAULTS = (
    (r"Empty CSV file", EMPTY, REWRITE),
    (r"multiple columns named$", "two columns have no name", "name each column, or remove it"),
    (r"multiple columns named (.+)", r"column \1: occurs twice, expected once", "remove one of them"),
    (r"duplicate field names", "two columns have the same name", "remove one of them"),
    (r"Row #(\d+): .*invalid UTF8", r"line \1: is not UTF-8", UTF_8),
    (r"invalid UTF8", "is not UTF-8", UTF_8),
    (r"^UnicodeDecodeError", "a column name is not UTF-8", UTF_8),
    (r"Row #(\d+): Expected 1 columns", r"line \1 has a comma, but the column names have none", COMMAS),
    (
        r"Row #(\d+): Expected (\d+) columns, got (\d+)",
        r"line \1: has \3 values, expected \2, as many as there are columns",
        "complete the line, and put a value that contains a comma in quotation marks",
    ),
    (
        r"(.+)",  # any other
        r"cannot be read: \1",
        "check the location and your access to it, or write the file again as Parquet or CSV",
    ),
)
Columns = Callable[[pa.Table], pa.Table]  # a model's function from the file's columns to the schema's columns
ROWS = 1 << 17  # number of rows in a batch
AHEAD = 2  # batches that are read in advance; memory use grows with it
EXACT = 2**53  # float64 represents every whole number below this limit exactly
MISSING = [text for text in csv.ConvertOptions().null_values if text] + ["None", ""]
WITH_OFFSET = r"\d:?\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d(:?\d\d)?)$"
FORMATS = {
    "parquet": ds.ParquetFileFormat(coerce_int96_timestamp_unit="us"),  # int96 is of Spark and Hive
    "csv": ds.CsvFileFormat(csv.ParseOptions(newlines_in_values=True)),
}


@dataclass(frozen=True)
class Wanted:
    """The columns that a file must have, with their types; missing columns in `optional` become null."""

    types: dict[str, pa.DataType]
    optional: frozenset[str]
    origin: str  # the file or attribute that asks for the columns, for messages

    @property
    def schema(self) -> pa.Schema:
        return pa.schema(self.types)


ANY = Wanted({}, frozenset(), "")  # whatever columns a file has


@dataclass(frozen=True)
class File:
    """One file of a data set; folders named `column=value` on its path add that column, as in Hive."""

    name: str  # name of the file in messages
    path: str  # path of the file in the file system `system`
    below: str = ""  # the path relative to the data set's folder
    system: Any = None  # the fsspec file system; None means local
    pinned: bool = False  # whether the file's bytes match a pinned SHA-256, so that it may be a pickle

    def batches(self, wanted: Wanted, columns: Columns | None = None) -> Iterator[pa.Table]:
        """Yield the rows in the wanted columns.

        `columns` converts the file's own columns to the wanted columns; it gets text if the file is CSV.
        Raises LoopError if the file cannot be read or a column does not fit.
        """
        text, begun = self._kind == "csv", 0
        tables = self._pickled() if self._kind == "pickle" else self._tables(wanted, every=bool(columns))
        for table in tables:
            if columns:
                yield mapped(columns(table), wanted, f"{self.name}: source.py", "columns", begun=begun)
            else:
                yield typed(table, wanted, self.name, parse=text, begun=begun)
            begun += table.num_rows

    def begin(self, wanted: Wanted | None) -> bool:
        """Whether the file has rows. Raises LoopError if they cannot be read or do not fit `wanted`.

        A pickle is not opened, because unpickling runs code.
        """
        if PICKLE.search(self.path):
            return True
        tables = self.batches(wanted) if wanted else self._tables(ANY, every=True)
        return any(table.num_rows for table in tables)

    @property
    def _kind(self) -> str:
        if self.pinned and PICKLE.search(self.path):
            return "pickle"
        if self.path.endswith(SUFFIXES):
            return "csv" if self.path.removesuffix(".gz").endswith(".csv") else "parquet"
        fix = f"end its name in {', '.join(SUFFIXES)}; begin it with `_` or `.` if it is not data"
        raise LoopError(f"{self.name}: is neither Parquet nor CSV", fix=fix)

    def _tables(self, wanted: Wanted, *, every: bool) -> Iterator[pa.Table]:
        """Yield a file's rows in batches, before their types are converted; with `every`, in all columns."""
        if self.system is None:
            self._refuse_foreign()
        with reaching(self.name, FAULTS):
            found = ds.dataset(self.path, format=FORMATS[self._kind], filesystem=self.system)
            [fragment] = found.get_fragments()
            schema = fragment.physical_schema
            names: list[str] = schema.names
        if self._kind == "csv":
            schema = pa.schema([(name, pa.string()) for name in names])
        given = {name: value for name, value in self._partition(wanted).items() if name not in names}
        if not every and (lacking := [n for n in wanted.types if n not in names and n not in given]):
            _refuse_lacking(lacking, names, wanted, self.name)
        batches = fragment.to_batches(
            schema=schema,
            columns=names if every else [name for name in wanted.types if name in names],
            batch_size=ROWS,
            batch_readahead=AHEAD,
        )
        while True:
            with reaching(self.name, FAULTS):
                if (batch := next(batches, None)) is None:
                    return
            table = pa.Table.from_batches([batch])
            for name, value in given.items():
                table = table.append_column(name, pa.repeat(value, batch.num_rows))
            yield table

    def _refuse_foreign(self) -> None:
        """Raise LoopError if the file is empty, or if its first bytes are those of another format."""
        with (
            reaching(self.name, FAULTS),
            (gzip.open if self.path.endswith(".gz") else open)(self.path, "rb") as file,
        ):
            begin = file.read(4096)
        if not begin:
            raise LoopError(f"{self.name}: {EMPTY}", fix=REWRITE)
        other = "bytes that are not text" if _is_binary(begin) else "text"
        found = next((what for mark, what in FOREIGN.items() if begin.startswith(mark)), other)
        expected, right = ("CSV in UTF-8", "text") if self._kind == "csv" else ("Parquet", "Parquet")
        if found != right:
            fix = f"save it as {expected}, or end its name in {', '.join(SUFFIXES)} as its content is"
            raise LoopError(f"{self.name}: found {found}, expected {expected}", fix=fix)

    def _pickled(self) -> Iterator[pa.Table]:
        import pandas as pd

        with reaching(self.name, FAULTS), Path(self.path).open("rb") as file:
            begin = file.read(8)
            packed = next((name for mark, name in PACKED.items() if begin.startswith(mark)), None)
            frame = pd.read_pickle(self.path, compression=packed)  # noqa: S301 - its bytes match a pinned SHA-256
            table = pa.Table.from_pandas(pd.DataFrame(frame), preserve_index=False)
        for begun in range(0, table.num_rows, ROWS):
            yield table.slice(begun, ROWS)

    def _partition(self, wanted: Wanted) -> dict[str, pa.Scalar]:
        folder = f"{PurePosixPath(self.below).parent}/"
        try:
            found = ds.get_partition_keys(ds.HivePartitioning(wanted.schema).parse(folder))
            return {name: pa.scalar(value, wanted.types[name]) for name, value in found.items()}
        except pa.ArrowException as error:
            fix = f"name it with a value of the type in {wanted.origin}"
            raise LoopError(f"{self.name}: folder name: {error}", fix=fix) from error


def _is_binary(begin: bytes) -> bool:
    """Whether a file's first bytes have a NUL, or are not UTF-8 and have other control characters."""
    text = begin.decode(errors="replace")[:-1]  # the last character may be cut
    return "\0" in text or bool("\ufffd" in text and re.search(r"[\x01-\x08\x0e-\x19]", text))


def mapped(rows: Any, wanted: Wanted, where: str, by: str, *, begun: int = 0) -> pa.Table:
    """Convert rows that a model's own function returned to the wanted types, parsing text as in CSV."""
    if not isinstance(rows, pa.Table):
        raise LoopError(f"{where}: `{by}` returned {type(rows).__name__}, expected a pyarrow.Table")
    return typed(rows, wanted, f"{where}: `{by}`", parse=True, begun=begun)


def typed(table: pa.Table, wanted: Wanted, file: str, *, parse: bool = False, begun: int = 0) -> pa.Table:
    """Return the table in the wanted columns and types; with `parse`, text columns are parsed as in CSV.

    Raises LoopError, naming file and column, if a value does not fit; a cast never changes a value.
    """
    names, columns = table.column_names, {}
    if twice := [name for name in wanted.types if names.count(name) > 1]:
        raise LoopError(f"{file}: column {twice[0]}: occurs twice, expected once", fix="remove one of them")
    for name, expected in wanted.types.items():
        if name not in names:
            _refuse_lacking([name], names, wanted, file)
            columns[name] = pa.nulls(table.num_rows, expected)
        else:
            where, column = f"{file}: column {name}", table[name]
            if types.is_dictionary(column.type):
                column = column.cast(column.type.value_type)
            if parse and _family(column.type) == "text":
                columns[name] = _parsed(column.cast(pa.string()), expected, where, begun)
            else:
                columns[name] = _cast(column, expected, where)
    return pa.table(columns)


def _refuse_lacking(lacking: list[str], names: list[str], wanted: Wanted, file: str) -> None:
    if len(names) == 1 and (mark := re.search("[;\t]", names[0])):
        said = f"found one column whose name contains {mark[0]!r}, expected commas between the columns"
        raise LoopError(f"{file}: {said}", fix=COMMAS)
    for name in lacking:
        if name not in wanted.optional:
            raise LoopError(
                f"{file}: column {name}: is missing from {', '.join(names)}; "
                f"expected {_word(wanted.types[name])}",
                fix=f"add it, or remove it from {wanted.origin}",
            )


def _cast(column: pa.ChunkedArray, expected: pa.DataType, where: str) -> pa.ChunkedArray:
    """Cast a column within one family of types. Raises LoopError if casting back gives other values."""
    if column.type == expected or types.is_null(column.type):
        return column.cast(expected)
    said = f"{where}: found {_word(column.type)}, expected {_word(expected)}"
    fix = f"write it as {_word(expected)}; casts that change a value are not made"
    cast = None
    if _family(column.type) == _family(expected):
        try:
            cast = _same_values(column, expected)
        except pa.ArrowException as error:
            raise LoopError(f"{said}: {error}", fix=fix) from error
    if cast is None:
        raise LoopError(said, fix=fix)
    return cast


def _same_values(column: pa.ChunkedArray, expected: pa.DataType) -> pa.ChunkedArray | None:
    """Return the column in another type; None if casting it back gives other values."""
    if types.is_integer(expected) and types.is_floating(column.type):
        nothing = pa.scalar(None, column.type)
        column = pc.if_else(pc.is_nan(column), nothing, column)  # pandas writes a missing value as NaN
    if types.is_decimal(column.type) and types.is_floating(expected):
        cast = column.cast(pa.string()).cast(expected)  # casting by way of text gives the nearest float
    else:
        cast = column.cast(expected)
    same = pc.equal(back := cast.cast(column.type), column)
    if types.is_floating(column.type):
        same = pc.or_(same, pc.and_(pc.is_nan(back), pc.is_nan(column)))
    return None if pc.all(same).as_py() is False else cast


def _family(kind: pa.DataType) -> str:
    if types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_decimal(kind):
        return "number"
    if types.is_timestamp(kind) or types.is_date(kind):
        return "time"
    text = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    return "text" if text else str(kind)


def _parsed(column: pa.ChunkedArray, expected: pa.DataType, where: str, begun: int) -> pa.ChunkedArray:
    """Parse CSV text as a type. Raises LoopError with the first value that cannot be parsed, and its row."""
    if _family(expected) == "text":  # only the empty text is missing, because "NA" may be a country code
        return pc.if_else(pc.equal(column, ""), pa.scalar(None, column.type), column).cast(expected)
    text = pc.utf8_trim_whitespace(column)
    text = pc.if_else(pc.is_in(text, pa.array(MISSING)), pa.scalar(None, text.type), text)
    try:
        return _values(text, expected)
    except (pa.ArrowException, ValueError):
        row = bisect_left(range(len(text)), True, key=lambda end: _is_odd(text.slice(0, end + 1), expected))
    raise LoopError(
        f"{where}: found {text[row].as_py()!r} in row {begun + row + 1:,}, expected {_word(expected)}",
        fix=f"write it as {_word(expected)}, and leave it empty if unknown; or convert it in the model's "
        "source.py",
    )


def _word(kind: pa.DataType) -> str:
    """Return a type's name as schema.py writes it; Arrow itself prints `double` and `list<item: double>`."""
    name = re.sub(r"list<\w+: ", "list<", str(kind))
    return re.sub(rf"\b({'|'.join(FLOATS)})\b", lambda found: FLOATS[found[0]], name)


def _is_odd(text: pa.ChunkedArray, expected: pa.DataType) -> bool:
    try:
        _values(text, expected)
    except (pa.ArrowException, ValueError):
        return True
    return False


def _values(text: pa.ChunkedArray, expected: pa.DataType) -> pa.ChunkedArray:
    """Parse text as another type. Raises ArrowException or ValueError if a value does not fit exactly."""
    if types.is_timestamp(expected):
        return _instants(text).cast(expected)
    if not types.is_integer(expected):
        return text.cast(expected)
    try:
        return text.cast(expected)
    except pa.ArrowException:  # `True`, or `7.0` as pandas writes a whole number in a column with gaps
        words = pc.is_in(pc.utf8_lower(text), pa.array(["true", "false", None]))
        if pc.all(words).as_py():
            return text.cast(pa.bool_()).cast(expected)
        numbers = text.cast(pa.float64())
        if pc.any(pc.greater_equal(pc.abs(numbers), EXACT)).as_py():
            raise ValueError("float64 cannot represent it exactly") from None
        return numbers.cast(expected)


def _instants(text: pa.ChunkedArray) -> pa.ChunkedArray:
    """Parse times as naive UTC: a time with an offset is converted, a time without an offset is UTC."""
    offset = pc.match_substring_regex(text, WITH_OFFSET)
    nothing, micro = pa.scalar(None, text.type), pa.timestamp("us")
    moved = pc.if_else(offset, text, nothing).cast(pa.timestamp("us", "UTC")).cast(micro)
    return pc.coalesce(moved, pc.if_else(offset, nothing, text).cast(micro))
