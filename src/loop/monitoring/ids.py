"""Compares ids by the type in the model's schema, so that 7, 7.0, 7.00 and "7" are the same whole number.

The spellings differ because pandas turns a column of whole numbers into floats once a value is missing, and
JSON clients send both numbers and text.
"""
# ruff: noqa: S608 — SQL is built from our own text, quoted file names, and column names of the model's schema

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from loop.core.errors import LoopError

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
        number = f"try_cast({text} as decimal(38, 18))"
        return f"case when {number} = trunc({number}) then try_cast({number} as {self.sql}) end"

    def rows(
        self, con: "duckdb.DuckDBPyConnection", files: Sequence[str], time: str, typed: Mapping[str, str]
    ) -> str:
        """Return SQL for the rows of Parquet files: `loop_text`, `loop_key`, `loop_time` and other columns.

        The first three are the id as text, its key, and the column `time` as naive UTC. The others are those
        of `typed` {column: SQL type}, with null for NaN, or all columns. Only files of equal types are read
        together, as a union changes values: ids to floats, true to 1. Raises LoopError if a column is absent.
        """
        types = "list((name, type, converted_type, scale, precision, logical_type) order by name) as types"
        each = f"select file_name, {types} from parquet_schema($1) group by 1"
        alike = f"select list(file_name order by file_name) from ({each}) group by types order by 1"
        parts = []
        for (group,) in con.execute(alike, [files]).fetchall():
            described = con.execute(f"describe select * from {parquet(group[:1])}").fetchall()
            kinds = {column.lower(): kind for column, kind, *_ in described}
            if lacking := [name for name in (self.column, time, *typed) if name.lower() not in kinds]:
                raise LoopError(f"{group[0]}: has no column {lacking[0]!r}", fix="add it, or remove the file")
            name, kind = f'"{self.column}"', kinds[self.column.lower()]
            text = f"{name}::varchar"
            if kind in FLOATING:  # a whole number that was stored as a float loses its `.0`
                text = rf"regexp_replace({text}, '\.0$', '')"
            key = f"try_cast({name} as {self.sql})" if self.whole and kind in WHOLE else self.key(text)
            # a column without time zone skips the slow conversion
            at = f'"{time}"::{"" if kinds[time.lower()] in NAIVE else "timestamptz::"}timestamp'
            nan = {each: "'nan'" if kinds[each.lower()] in FLOATING else "null" for each in typed}
            columns = [f'nullif("{each}", {nan[each]})::{typed[each]} as "{each}"' for each in typed] or ["*"]
            ours = f"{text} as loop_text, {key} as loop_key, {at} as loop_time"
            parts.append(f"select {', '.join(columns)}, {ours} from {parquet(group)}")
        return " union all by name ".join(parts)


def parquet(files: Sequence[str]) -> str:
    """Return SQL that reads the rows of Parquet files."""
    return READ.format(listed(files))


def listed(files: Sequence[str]) -> str:
    """Return SQL for a list of files."""
    return "[" + ", ".join("'" + file.replace("'", "''") + "'" for file in files) + "]"
