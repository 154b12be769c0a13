"""Compares ids by the type in the model's schema, so that 7, 7.0, 7.00 and "7" are the same whole number.

The spellings differ because pandas turns a column of whole numbers into floats once a value is missing, and
JSON clients send both numbers and text.
"""
# ruff: noqa: S608 — SQL is built from our own text, quoted file names, and column names of the model's schema

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb

READ = "read_parquet({}, union_by_name = true)"  # SQL for the rows of Parquet files
FLOATING = ("FLOAT", "DOUBLE")
NAIVE = ("TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS")
WHOLE = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER")


@dataclass(frozen=True)
class Ids:
    """How a model's ids are compared; `kind` is the Arrow type of the id column, None if unknown."""

    column: str
    kind: str | None

    @property
    def whole(self) -> bool:
        return (self.kind or "").removeprefix("u").startswith("int")

    @property
    def sql(self) -> str:
        """The SQL type of the values that `key` returns."""
        return "bigint" if self.whole and self.kind != "uint64" else "ubigint"

    def key(self, text: str) -> str:
        """Return SQL for the value by which ids are joined, given SQL for the id's text.

        It is a whole number itself, or the hash of a text; null if the id is not of the schema's type.
        """
        if not self.whole:
            return f"case when {text} is not null then hash({text}) end"
        number = f"try_cast({text} as decimal(38, 6))"
        return f"case when {number} = trunc({number}) then try_cast({number} as {self.sql}) end"


def stored(con: "duckdb.DuckDBPyConnection", view: str, files: Sequence[str], ids: Ids, time: str) -> None:
    """Create a view of Parquet files with their own columns, and `_text`, `_key` and `_time`.

    These are the id as text, its key, and the column `time` as a naive UTC timestamp. Files that store ids as
    floats are read apart from the others, because a union would turn all ids into floats.
    """
    found = con.execute(
        f"select file_name from parquet_schema($1) where name = $2 and type in {FLOATING}",
        [files, ids.column],
    ).fetchall()
    floating = {file for (file,) in found}
    parts = []
    for group in (sorted(floating), [file for file in files if file not in floating]):
        if group:
            described = con.execute(f"describe select * from {parquet(group)}").fetchall()
            kinds = {column: kind for column, kind, *_ in described}
            name, kind = f'"{ids.column}"', kinds.get(ids.column, "")
            text = f"{name}::varchar"
            if kind in FLOATING:  # a whole number that was stored as a float loses its `.0`
                text = rf"regexp_replace({text}, '\.0$', '')"
            number = f"try_cast({name} as {ids.sql})"
            key = number if ids.whole and kind in WHOLE else ids.key(text)
            # a column without time zone skips the slow conversion
            at = f'"{time}"::timestamp' if kinds.get(time) in NAIVE else f'"{time}"::timestamptz::timestamp'
            parts.append(f"select *, {text} as _text, {key} as _key, {at} as _time from {parquet(group)}")
    con.execute(f"create view {view} as {' union all by name '.join(parts)}")


def parquet(files: Sequence[str]) -> str:
    """Return SQL that reads the rows of Parquet files."""
    return READ.format(listed(files))


def listed(files: Sequence[str]) -> str:
    """Return SQL for a list of files."""
    return "[" + ", ".join("'" + file.replace("'", "''") + "'" for file in files) + "]"
