"""Reads a data set's files one batch at a time, in the types that the schema asks for.

Parquet keeps its own types, and they are cast only where nothing is lost. CSV has none, so each of its
columns is read as text and parsed as the schema's type. Guessing a type from the first rows would fail later.
A pickled pandas DataFrame is read too, but only one whose bytes are pinned, because unpickling runs code.
"""

import bz2
import gzip
import lzma
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from pyarrow import csv

from loop.core.errors import LoopError
from loop.core.text import one_line

SUFFIXES = (".parquet", ".csv", ".csv.gz")
PICKLE = re.compile(r"\.(pkl|pickle)(\.\w+)?$")
PACKED: dict[bytes, Callable[..., Any]] = {
    b"\xfd7zXZ": lzma.open,
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
}  # by how a file begins
Columns = Callable[[pa.Table], pa.Table]  # a team's own columns to those of the schema, some rows at a time
ROWS = 1 << 17  # of a batch
AHEAD = 2  # batches that are read while one is worked on: memory grows with it
EXACT = 2**53  # from here up, a float64 does not hold every whole number
MISSING = [text for text in csv.ConvertOptions().null_values if text] + ["None", ""]
WITH_OFFSET = r"\d:?\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d(:?\d\d)?)$"
FORMATS = {
    "parquet": lambda: ds.ParquetFileFormat(coerce_int96_timestamp_unit="us"),  # Spark's and Hive's times
    "csv": lambda: ds.CsvFileFormat(csv.ParseOptions(newlines_in_values=True)),
}


@dataclass(frozen=True)
class Wanted:
    """The columns that a file must have, and their types; an `optional` one that it lacks is null."""

    types: dict[str, pa.DataType]
    optional: frozenset[str]
    origin: str  # what asks for them

    @property
    def schema(self) -> pa.Schema:
        return pa.schema(self.types)


@dataclass(frozen=True)
class File:
    """A file of a data set. Folders called `column=value` on the way to it give that column, as in Hive."""

    name: str  # in errors
    path: str  # in `system`
    below: str = ""  # the path below the data set's own folder
    system: Any = None  # fsspec's; None: this machine's
    pinned: bool = False  # its bytes are those that a person has pinned, so that it may be a pickle

    def batches(
        self,
        wanted: Wanted,
        before: tuple[str, pa.Scalar] | None = None,
        columns: Columns | None = None,
    ) -> Iterator[pa.Table]:
        """The rows in the wanted columns; with `before`, row groups from its instant on may be left out.

        `columns` makes the wanted columns of the file's own, which are text where the file is CSV.
        """
        text, begun = self._kind == "csv", 0
        for table in self._pickled() if self._kind == "pickle" else self._tables(wanted, before, columns):
            if columns:
                yield mapped(columns(table), wanted, self.name, "columns", begun=begun)
            else:
                yield typed(table, wanted, self.name, parse=text, begun=begun)
            begun += table.num_rows

    @property
    def _kind(self) -> str:
        if self.pinned and PICKLE.search(self.path):
            return "pickle"
        if self.path.endswith(SUFFIXES):
            return "csv" if self.path.removesuffix(".gz").endswith(".csv") else "parquet"
        raise LoopError(
            f"{self.name}: neither Parquet nor CSV",
            fix=f"its name ends in {', '.join(SUFFIXES)}; a file that is no data begins with `_` or `.`",
        )

    def _tables(
        self, wanted: Wanted, before: tuple[str, pa.Scalar] | None, columns: Columns | None
    ) -> Iterator[pa.Table]:
        """The rows as the file has them, in the columns that are needed."""
        with _reading(self.name):
            found = ds.dataset(self.path, format=FORMATS[self._kind](), filesystem=self.system)
            [fragment] = found.get_fragments()
            schema = fragment.physical_schema
        names = check_names(schema, self.name)
        if self._kind == "csv":
            schema = pa.schema([(name, pa.string()) for name in names])
        given = {name: value for name, value in self._partition(wanted).items() if name not in names}
        if not columns and (lacking := [n for n in wanted.types if n not in names and n not in given]):
            _refuse_lacking(lacking, names, wanted, self.name)
        batches = fragment.to_batches(
            schema=schema,
            columns=names if columns else [name for name in wanted.types if name in names],
            filter=None if columns else _earlier(schema, before),
            batch_size=ROWS,
            batch_readahead=AHEAD,
        )
        while True:
            with _reading(self.name):
                if (batch := next(batches, None)) is None:
                    return
            table = pa.Table.from_batches([batch])
            for name, value in given.items():
                table = table.append_column(name, pa.repeat(value, batch.num_rows))
            yield table

    def _pickled(self) -> Iterator[pa.Table]:
        """A pickled DataFrame, without its index."""
        import pandas as pd

        with _reading(self.name), Path(self.path).open("rb") as file:
            begin = file.read(8)
            unpack = next((unpack for mark, unpack in PACKED.items() if begin.startswith(mark)), open)
            with unpack(self.path, "rb") as content:
                frame = pd.read_pickle(content)  # noqa: S301 - its bytes are pinned
        if not isinstance(frame, pd.DataFrame):
            raise LoopError(
                f"{self.name}: found a pickled {type(frame).__name__}, expected a pandas DataFrame",
                fix="write the rows as Parquet",
            )
        with _reading(self.name):
            table = pa.Table.from_pandas(frame, preserve_index=False)
            check_names(table.schema, self.name)
        for begun in range(0, table.num_rows, ROWS):
            yield table.slice(begun, ROWS)

    def _partition(self, wanted: Wanted) -> dict[str, pa.Scalar]:
        folder = f"{PurePosixPath(self.below).parent}/"
        try:
            found = ds.get_partition_keys(ds.HivePartitioning(wanted.schema).parse(folder))
            return {name: pa.scalar(value, wanted.types[name]) for name, value in found.items()}
        except pa.ArrowException as error:
            raise LoopError(
                f"{self.name}: a folder's name: {error}", fix=f"name it as {wanted.origin} types the column"
            ) from error


def mapped(rows: Any, wanted: Wanted, where: str, by: str, *, begun: int = 0) -> pa.Table:
    """Rows that a model's own function made, in the wanted types. Text is parsed, as that of CSV is."""
    if not isinstance(rows, pa.Table):
        raise LoopError(f"{where}: `{by}` gave {type(rows).__name__}, expected a pyarrow.Table")
    return typed(rows, wanted, where, parse=True, begun=begun)


def typed(table: pa.Table, wanted: Wanted, file: str, *, parse: bool = False, begun: int = 0) -> pa.Table:
    """The table in the wanted columns and types; with `parse`, its columns are text, as CSV has it.

    Raises LoopError with file, column, what was found and what is expected; casts only lose nothing.
    """
    names, columns = check_names(table.schema, file), {}
    for name, expected in wanted.types.items():
        if name not in names:
            _refuse_lacking([name], names, wanted, file)
            columns[name] = pa.nulls(table.num_rows, expected)
        else:
            where = f"{file}: column {name}"
            text = parse and pa.types.is_string(table[name].type)
            columns[name] = (
                _parsed(table[name], expected, where, begun) if text else _cast(table[name], expected, where)
            )
    return pa.table(columns)


def check_names(schema: pa.Schema, file: str) -> list[str]:
    """The names of a file's columns; LoopError where they are no text, or two columns share one."""
    try:
        names: list[str] = schema.names
    except UnicodeDecodeError as error:
        raise LoopError(f"{file}: a column's name: {error}", fix="write the file again in UTF-8") from error
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise LoopError(f"{file}: column {twice[0]}: is there twice", fix="keep the one that is meant")
    return names


def _refuse_lacking(lacking: list[str], names: list[str], wanted: Wanted, file: str) -> None:
    for name in lacking:
        if name not in wanted.optional:
            raise LoopError(
                f"{file}: column {name}: found only {', '.join(names)}; expected {wanted.types[name]}",
                fix=f"add it to the file, or take it out of {wanted.origin}",
            )


@contextmanager
def _reading(name: str) -> Iterator[None]:
    """LoopError for whatever a file that is not what its name says, or a file system, raises."""
    try:
        yield
    except LoopError:
        raise
    except Exception as error:  # every file system raises errors of its own
        said = one_line(f"{type(error).__name__}: {error}", 500)
        if isinstance(error, UnicodeDecodeError):
            said = f"a column's name: {said}"
        raise LoopError(
            f"{name}: cannot be read: {said}",
            fix="check the place and access to it, or write the file again as Parquet or CSV",
        ) from error


def _earlier(schema: pa.Schema, before: tuple[str, pa.Scalar] | None) -> ds.Expression | None:
    """A filter by which whole row groups are skipped; rows that it lets pass are looked at again."""
    if before is None or before[0] not in schema.names:
        return None
    name, until = before
    kind = schema.field(name).type
    if not pa.types.is_timestamp(kind):
        return None
    end = pc.ceil_temporal(until, unit="second").cast(kind)
    return (ds.field(name) < end) | ds.field(name).is_null()


def _cast(column: pa.ChunkedArray, expected: pa.DataType, where: str) -> pa.ChunkedArray:
    """Cast within one family of types, and only when the way back gives the same values."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if column.type == expected or pa.types.is_null(column.type):
        return column.cast(expected)
    error = LoopError(
        f"{where}: found {column.type}, expected {expected}",
        fix=f"write it as {expected}; only casts that lose nothing are made",
    )
    if _family(column.type) != _family(expected):
        raise error
    try:
        cast = _same_values(column, expected)
    except pa.ArrowException as why:
        raise LoopError(f"{where}: found {column.type}, expected {expected}: {why}", fix=error.fix) from why
    if cast is None:
        raise error
    return cast


def _same_values(column: pa.ChunkedArray, expected: pa.DataType) -> pa.ChunkedArray | None:
    """The column in another type; None where the way back does not give the same values."""
    if pa.types.is_integer(expected) and pa.types.is_floating(column.type):
        nothing = pa.scalar(None, column.type)
        column = pc.if_else(pc.is_nan(column), nothing, column)  # NaN is how pandas writes a gap
    if pa.types.is_decimal(column.type) and pa.types.is_floating(expected):
        cast = column.cast(pa.string()).cast(expected)  # the nearest float, which Arrow's own cast may miss
    else:
        cast = column.cast(expected)
    same = pc.equal(back := cast.cast(column.type), column)
    if pa.types.is_floating(column.type):
        same = pc.or_(same, pc.and_(pc.is_nan(back), pc.is_nan(column)))
    return None if pc.all(same).as_py() is False else cast


def _family(kind: pa.DataType) -> str:
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        return "number"
    if pa.types.is_decimal(kind):
        return "number"
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return "time"
    text = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return "text" if any(is_one(kind) for is_one in text) else str(kind)


def _parsed(column: pa.ChunkedArray, expected: pa.DataType, where: str, begun: int) -> pa.ChunkedArray:
    """CSV's text as a type; LoopError names the first value that is none of it, and its row."""
    if _family(expected) == "text":  # here "NA" may be Namibia, so only what is empty is missing
        return pc.if_else(pc.equal(column, ""), pa.scalar(None, column.type), column).cast(expected)
    text = pc.utf8_trim_whitespace(column)
    text = pc.if_else(pc.is_in(text, pa.array(MISSING)), pa.scalar(None, text.type), text)
    try:
        return _values(text, expected)
    except (pa.ArrowException, ValueError):
        row = _first_odd(text, expected)
    raise LoopError(
        f"{where}: found {text[row].as_py()!r} in row {begun + row + 1:,}, expected {expected}",
        fix=f"write it as {expected}, and nothing where it is not known; or map it in the model's source.py",
    )


def _first_odd(text: pa.ChunkedArray, expected: pa.DataType) -> int:
    """The position of the first value that cannot be parsed."""
    first, last = 0, len(text) - 1
    while first < last:
        middle = (first + last) // 2
        try:
            _values(text.slice(first, middle - first + 1), expected)
        except (pa.ArrowException, ValueError):
            last = middle
        else:
            first = middle + 1
    return first


def _values(text: pa.ChunkedArray, expected: pa.DataType) -> pa.ChunkedArray:
    """Text as another type; ArrowException or ValueError where a value is none of it, or would lose some."""
    if pa.types.is_timestamp(expected):
        return _instants(text).cast(expected)
    if not pa.types.is_integer(expected):
        return text.cast(expected)
    try:
        return text.cast(expected)
    except pa.ArrowException:  # `7.0`, as pandas writes whole numbers with a gap among them, or `True`
        words = pc.is_in(pc.utf8_lower(text), pa.array(["true", "false", None]))
        if pc.all(words).as_py():
            return text.cast(pa.bool_()).cast(expected)
        numbers = text.cast(pa.float64())
        if pc.any(pc.greater_equal(pc.abs(numbers), EXACT)).as_py():
            raise ValueError("a float64 does not hold it") from None
        return numbers.cast(expected)


def _instants(text: pa.ChunkedArray) -> pa.ChunkedArray:
    """Times in UTC, without a zone: one with an offset is moved by it, and one without is UTC already."""
    offset = pc.match_substring_regex(text, WITH_OFFSET)
    nothing, micro = pa.scalar(None, text.type), pa.timestamp("us")
    moved = pc.if_else(offset, text, nothing).cast(pa.timestamp("us", "UTC")).cast(micro)
    return pc.coalesce(moved, pc.if_else(offset, nothing, text).cast(micro))
