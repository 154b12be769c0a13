"""Compares ids by the type in the model's schema, so that 7, 7.0, 7.00 and "7" are the same whole number.

The spellings differ because pandas turns a column of whole numbers into floats once a value is missing, and
JSON clients send both numbers and text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from loop.core.text import one_line

if TYPE_CHECKING:
    import duckdb

SAMPLE = 1_000  # number of logged ids that are examined to explain why ids do not match
LARGE = 0.01  # the share of unmatched ids from which the report explains the cause
EXACT = 2**53  # float64 represents every whole number below this limit exactly
SPREAD = 1 << 20  # range of the row hash that decides which rows a sample takes
FLOATING = ("FLOAT", "DOUBLE")
WHOLE = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER")
FIELDS = "name, type, converted_type, scale, precision, logical_type"


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
        return "bigint" if self.whole else "ubigint"

    def key(self, text: str) -> str:
        """Return SQL for the value by which ids are joined, given SQL for the id's text.

        It is a whole number itself, or the hash of a text; null if the id is not of the schema's type.
        """
        if not self.whole:
            return f"case when {text} is not null then hash({text}) end"
        number = f"try_cast({text} as double)"
        return f"""case when {text} is null then null
            when contains({text}, '.') or contains({text}, 'e') then as_key(coalesce(
                try_cast(case when regexp_full_match({text}, '[+-]?\\d+\\.0+')
                    then split_part({text}, '.', 1) end as hugeint),
                case when {number} = trunc({number}) and abs({number}) < {EXACT} then {number}::hugeint end))
            else as_key(try_cast({text} as hugeint)) end"""

    def text(self, floating: bool) -> str:
        """Return SQL for a stored id as text; a whole number that was stored as a float loses its `.0`."""
        said = f'cast("{self.column}" as varchar)'
        return f"regexp_replace({said}, '\\.0$', '')" if floating else said


def prepare(con: "duckdb.DuckDBPyConnection") -> None:
    """Define the SQL macro that `Ids.key` uses: a number too large for 64 bits is replaced by its hash."""
    con.execute(
        """create temp macro as_key(x) as
        case when x between -9223372036854775808 and 9223372036854775807 then x::bigint
             when x is not null then (hash(x) >> 1)::bigint end"""
    )


@dataclass(frozen=True)
class Stored:
    """One part of the data store; files are grouped by types, as a union could turn ids into floats."""

    ids: Ids
    groups: tuple[
        tuple[tuple[str, ...], dict[str, str]], ...
    ]  # for each group: its files, and DuckDB's type of each column

    @classmethod
    def of(cls, con: "duckdb.DuckDBPyConnection", files: Sequence[str], ids: Ids) -> "Stored":
        found = con.execute(
            f"""select file_name, string_agg(concat_ws(' ', {FIELDS}), ';' order by name)
            from parquet_schema($1) group by 1 order by 1""",  # noqa: S608 — our own constant
            [list(files)],
        ).fetchall()
        alike: dict[str, list[str]] = {}
        for file, types in found:
            alike.setdefault(types, []).append(file)
        groups = []
        for names in alike.values():
            described = con.execute(f"describe select * from {parquet(names[:1])}").fetchall()  # noqa: S608
            groups.append((tuple(names), {column: kind for column, kind, *_ in described}))
        return cls(ids, tuple(groups))

    def select(self, columns: str, **instants: str) -> str:
        """Return SQL that selects columns of all files; `{text}` in them is the id, `{key}` its key.

        `instants` maps names used in `columns` to time columns, which are returned as naive UTC timestamps.
        """
        parts = []
        for files, kinds in self.groups:
            id_, kind = self.ids.column, kinds.get(self.ids.column, "")
            text = self.ids.text(kind in FLOATING)
            key = self.ids.key(text)
            if self.ids.whole and kind in WHOLE:
                key = f'"{id_}"::bigint'
            times = {name: _instant(column, kinds.get(column, "")) for name, column in instants.items()}
            parts.append(f"select {columns.format(text=text, key=key, **times)} from {parquet(files)}")  # noqa: S608
        return " union all ".join(parts)


def _instant(column: str, kind: str) -> str:
    """Return SQL for a time column in UTC; a column without time zone skips the slow conversion."""
    naive = kind in ("TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS")
    return f'"{column}"::timestamp' if naive else f'"{column}"::timestamptz::timestamp'


def parquet(files: Sequence[str]) -> str:
    """Return SQL that reads the rows of Parquet files."""
    return scan(f"[{quoted(files)}]")


def scan(files: str) -> str:
    """Return SQL that reads the rows of Parquet files, given SQL for the list of their names."""
    return f"read_parquet({files}, union_by_name = true)"


def quoted(texts: Sequence[str]) -> str:
    """Return SQL for a list of texts."""
    return ", ".join("'" + text.replace("'", "''") + "'" for text in texts)


def too_many(count: int, total: int) -> bool:
    """Return whether the share of ids without a counterpart is large enough that the report explains it."""
    return count > 0 and count >= LARGE * total


def difference(con: "duckdb.DuckDBPyConnection", ours: Sequence[str], theirs: Stored) -> str | None:
    """Return a likely reason why the store lacks these ids, judged by their spelling, else None."""
    typed = theirs.ids.kind or "id"
    odd, count = con.execute(
        f"select min(text), count(*) from ({theirs.select('{text} as text, {key} as key')})"  # noqa: S608 — ours
        " where text is not null and key is null",
    ).fetchall()[0]
    if count:
        return f"{count:,} ids in the store are not of type {typed}, such as {shown(odd)}"
    spelled = "ltrim(lower(trim({})), '0')"
    alike = con.execute(
        f"""select ours.text, theirs.text from (select unnest($1) as text) ours
        join ({theirs.select("{text} as text")}) theirs
        on {spelled.format("ours.text")} = {spelled.format("theirs.text")} order by 1 limit 1""",  # noqa: S608
        [list(ours)],
    ).fetchall()
    if alike and alike[0][0] != alike[0][1]:
        return f"the log spells an id {shown(alike[0][0])} that the store spells {shown(alike[0][1])}"
    return None


def example(con: "duckdb.DuckDBPyConnection", theirs: Stored) -> Any:
    """Return the smallest id of a store, as text for a message."""
    found = con.execute(f"select min(text) from ({theirs.select('{text} as text')})")  # noqa: S608
    return shown(found.fetchall()[0][0])


def shown(value: Any) -> str:
    """Return an untrusted id, escaped and shortened for a message."""
    return one_line(ascii(value), 40)
