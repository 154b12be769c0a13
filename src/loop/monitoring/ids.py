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
    """Define what `Ids.key` uses: DuckDB's own hash of a null is a number like any other."""
    con.execute("create temp macro hash_or_null(x) as case when x is not null then hash(x) end")


@dataclass(frozen=True)
class Stored:
    """A part of the store, its files in groups of the same types: a union of all can make ids floats."""

    ids: Ids
    groups: tuple[tuple[tuple[str, ...], bool], ...]  # files, and whether their ids are floats

    @classmethod
    def of(cls, con: "duckdb.DuckDBPyConnection", files: Sequence[str], ids: Ids) -> "Stored":
        found = con.execute(
            f"""select file_name, string_agg(concat_ws(' ', {FIELDS}), ';' order by name),
            bool_or(name = $2 and type in ('FLOAT', 'DOUBLE'))
            from parquet_schema($1) group by 1 order by 1""",  # noqa: S608 — our own constant
            [list(files), ids.column],
        ).fetchall()
        groups: dict[tuple[str, bool], list[str]] = {}
        for file, types, floating in found:
            groups.setdefault((types, bool(floating)), []).append(file)
        return cls(ids, tuple((tuple(names), floating) for (_, floating), names in groups.items()))

    def select(self, columns: str) -> str:
        """SQL of the columns of all files; `{text}` in them is the id as text, `{key}` what stands for it."""
        parts = []
        for number, (_, floating) in enumerate(self.groups, 1):
            text = self.ids.text(floating)
            said = columns.format(text=text, key=self.ids.key(text))
            parts.append(f"select {said} from read_parquet(${number}, union_by_name = true)")  # noqa: S608
        return " union all ".join(parts)

    @property
    def files(self) -> list[list[str]]:
        """The parameters of what `select` gives."""
        return [list(files) for files, _ in self.groups]


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
        theirs.files,
    ).fetchall()[0]
    if count:
        return f"{count:,} ids there are no {typed}, such as {shown(odd)}"
    spelled = "ltrim(lower(trim({})), '0')"
    alike = con.execute(
        f"""select ours.text, theirs.text from (select unnest(${len(theirs.groups) + 1}) as text) ours
        join ({theirs.select("{text} as text")}) theirs
        on {spelled.format("ours.text")} = {spelled.format("theirs.text")} order by 1 limit 1""",  # noqa: S608
        [*theirs.files, list(ours)],
    ).fetchall()
    if alike and alike[0][0] != alike[0][1]:
        return f"the same id is spelled {shown(alike[0][0])} here and {shown(alike[0][1])} there"
    return None


def example(con: "duckdb.DuckDBPyConnection", theirs: Stored) -> Any:
    """The least id of a store, as text."""
    found = con.execute(f"select min(text) from ({theirs.select('{text} as text')})", theirs.files)  # noqa: S608
    return shown(found.fetchall()[0][0])


def shown(value: Any) -> str:
    """An id of other people's, short and fit for a line."""
    return one_line(ascii(value), 40)
