"""Ids in the schema's type: to a schema of whole numbers 7, 7.0, 7.00 and "7" are one id, whoever wrote it.

pandas writes whole numbers as floats once one is missing, and JSON has both numbers and text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from loop.core.text import one_line

if TYPE_CHECKING:
    import duckdb

SAMPLE = 1_000  # ids of the log that are looked at for why they match none
LARGE = 0.01  # an unmatched share from here up is explained
EXACT = 2**53  # a float64 holds every whole number below
SPREAD = 1 << 20  # of a hash: which rows a sample takes is a function of the row
FLOATING = ("FLOAT", "DOUBLE")
WHOLE = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER")
FIELDS = "name, type, converted_type, scale, precision, logical_type"


@dataclass(frozen=True)
class Ids:
    """How a model's ids are compared; `kind` is Arrow's name of their type in the schema, if known."""

    column: str
    kind: str | None

    @property
    def whole(self) -> bool:
        return (self.kind or "").removeprefix("u").startswith("int")

    def key(self, text: str) -> str:
        """SQL of the hash of an id, which `text` is the SQL of; null where it is none of that type."""
        if not self.whole:
            return f"case when {text} is not null then hash({text}) end"
        number = f"try_cast({text} as double)"
        return f"""case when {text} is null then null
            when contains({text}, '.') or contains({text}, 'e') then hash_or_null(coalesce(
                try_cast(case when regexp_full_match({text}, '[+-]?\\d+\\.0+')
                    then split_part({text}, '.', 1) end as hugeint),
                case when {number} = trunc({number}) and abs({number}) < {EXACT} then {number}::hugeint end))
            else hash_or_null(try_cast({text} as hugeint)) end"""

    def text(self, floating: bool) -> str:
        """SQL of a store's id as text; a whole number that was written as a float reads as one."""
        said = f'cast("{self.column}" as varchar)'
        return f"regexp_replace({said}, '\\.0$', '')" if floating else said


def prepare(con: "duckdb.DuckDBPyConnection") -> None:
    """Define what `Ids.key` uses. DuckDB hashes a null too, and a number by its type."""
    con.execute(
        """create temp macro hash_or_null(x) as
        case when x between -9223372036854775808 and 9223372036854775807 then hash(x::bigint)
             when x is not null then hash(x) end"""
    )


@dataclass(frozen=True)
class Stored:
    """A part of the store, its files in groups of the same types: a union of all can make ids floats."""

    ids: Ids
    groups: tuple[tuple[tuple[str, ...], dict[str, str]], ...]  # files, and DuckDB's types of their columns

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
        """SQL of the columns of all files; `{text}` in them is the id as text, `{key}` what stands for it.

        `instants` are columns of times, by their names in `columns`: UTC, as naive timestamps.
        """
        parts = []
        for files, kinds in self.groups:
            id_, kind = self.ids.column, kinds.get(self.ids.column, "")
            text = self.ids.text(kind in FLOATING)
            key = self.ids.key(text)
            if self.ids.whole and kind in WHOLE:  # parsed from text, it would take three times as long
                key = f'case when "{id_}" is not null then hash("{id_}"::bigint) end'
            times = {name: _instant(column, kinds.get(column, "")) for name, column in instants.items()}
            parts.append(f"select {columns.format(text=text, key=key, **times)} from {parquet(files)}")  # noqa: S608
        return " union all ".join(parts)


def _instant(column: str, kind: str) -> str:
    """SQL of a column of times. One without a zone is UTC, and needs none of the slow conversion."""
    naive = kind in ("TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS")
    return f'"{column}"::timestamp' if naive else f'"{column}"::timestamptz::timestamp'


def parquet(files: Sequence[str]) -> str:
    """SQL of the rows of Parquet files."""
    names = ", ".join("'" + file.replace("'", "''") + "'" for file in files)
    return f"read_parquet([{names}], union_by_name = true)"


@dataclass(frozen=True)
class Apart:
    """Ids of one place that another place lacks: `count` of `total`."""

    what: str  # as in: 12 of 300 predictions
    count: int
    total: int

    def line(self, why: str) -> str:
        return f"{self.count:,} of {self.total:,} {self.what}: {why}"

    @property
    def large(self) -> bool:
        return self.count > 0 and self.count >= LARGE * self.total


def difference(con: "duckdb.DuckDBPyConnection", ours: Sequence[str], theirs: Stored) -> str | None:
    """Why a store has none of these ids, as far as their spelling says; None where it says nothing."""
    typed = theirs.ids.kind or "id"
    odd, count = con.execute(
        f"select min(text), count(*) from ({theirs.select('{text} as text, {key} as key')})"  # noqa: S608 — ours
        " where text is not null and key is null",
    ).fetchall()[0]
    if count:
        return f"{count:,} ids there are no {typed}, such as {shown(odd)}"
    spelled = "ltrim(lower(trim({})), '0')"
    alike = con.execute(
        f"""select ours.text, theirs.text from (select unnest($1) as text) ours
        join ({theirs.select("{text} as text")}) theirs
        on {spelled.format("ours.text")} = {spelled.format("theirs.text")} order by 1 limit 1""",  # noqa: S608
        [list(ours)],
    ).fetchall()
    if alike and alike[0][0] != alike[0][1]:
        return f"the same id is spelled {shown(alike[0][0])} here and {shown(alike[0][1])} there"
    return None


def example(con: "duckdb.DuckDBPyConnection", theirs: Stored) -> Any:
    """The least id of a store, as text."""
    found = con.execute(f"select min(text) from ({theirs.select('{text} as text')})")  # noqa: S608
    return shown(found.fetchall()[0][0])


def shown(value: Any) -> str:
    """An id of other people's, short and fit for a line."""
    return one_line(ascii(value), 40)
