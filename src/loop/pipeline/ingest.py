"""The stage ingest: writes the rows of the source, and of production's store, in the columns of the schema.

The source is the model's simulator, or Parquet or CSV anywhere that fsspec reads: a file, a folder of files
(with Hive's `column=value` folders, or as Spark writes it), a pattern with `*`, or a file in a package on
PyPI. Its bytes are pinned by SHA-256. The model's source.py may define `columns`, which converts the source's
columns to the schema's, or `read`, which reads files of any format.

With `ingest.logged`, the store's transactions before `until` are added, or all of them if rows have no time.
A row that the source or another file of the store has already is left out. A row's label is the last label
that was reported by `until`, or else the source's label; reports without a label are ignored, and a label
that is not known yet is null.

DuckDB holds and sorts the rows, so that a store may be larger than memory.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from loop.core.database import opened
from loop.core.errors import LoopError
from loop.core.files import whole
from loop.core.models import ModelFolder
from loop.core.params import Ingest, Logged
from loop.core.project import Project
from loop.pipeline import files, source, store
from loop.pipeline.files import File, Wanted

if TYPE_CHECKING:
    import duckdb

REPORTED = "reported_at"  # the time of a label's report; files in a store's labels/ have id, label and this
MICROSECONDS = pa.timestamp("us")
GROUP = 1 << 20  # rows per row group in raw.parquet, independent of the engine's batch size


def main(project: Project) -> int:
    """Run the stage: write data/<package>/raw.parquet, by time and id; equal params give equal bytes.

    Returns the number of rows.
    """
    folder, count = project.folder, 0
    wanted = schema_of(folder)
    with (
        whole(project.raw) as aside,
        pq.ParquetWriter(aside, wanted.schema, compression="zstd") as file,
    ):
        for group in rows(project.params.ingest, folder, project.root):
            file.write_table(group, GROUP)
            count += group.num_rows
    return count


def rows(ingest: Ingest, folder: ModelFolder, root: Path) -> Iterator[pa.Table]:
    """Yield all rows that params.yaml names, in the model's COLUMNS, ordered by time and id.

    Relative paths start at `root`. Raises LoopError if a file's bytes are not the pinned bytes, or a column
    does not match the schema.
    """
    if ingest.source == "simulator":
        if not hasattr(folder.source, "simulate"):
            raise LoopError(
                f"params.yaml: models.{folder.name}.ingest.source: is `simulator`, but "
                f"src/models/{folder.name}/source.py defines no function `simulate`",
                fix=f"./loop pin {folder.name} --source PATH-OR-URL",
            )
        world = folder.section("source", ingest.simulator)
        table = files.typed(folder.source.simulate(world), schema_of(folder), "simulator")
        if not ingest.logged:  # the database would take twice as long
            by = [(name, "ascending") for name in (folder.roles.time, folder.roles.id) if name]
            yield table.sort_by(by).combine_chunks()
            return
        begin = iter([table])
    else:
        own = {name: getattr(folder.source, name, None) for name in ("columns", "read")}
        begin = source.batches(ingest, folder.name, schema_of(folder), root, **own)
    with opened() as con:
        taking = _Taking(con, folder)
        taking.source(begin, ", ".join(ingest.places) or "simulator")
        if ingest.logged:
            taking.store(ingest.logged, root)
        yield from taking.groups()


def schema_of(folder: ModelFolder, absent: tuple[str, ...] = ()) -> Wanted:
    """Return the columns and types of the model's rows; those in `absent` or ROLES.never may be missing."""
    return Wanted(
        folder.types, frozenset({*absent, *folder.roles.never}), f"{folder.schema.__name__}.COLUMNS"
    )


class _Taking:
    """The rows of source and store in a database table, with `n`, their order, and `file`, 0 for the source.

    The columns of id, label and time have these names, and others are `c0`, `c1`, …, because DuckDB ignores
    the case of a name.
    """

    def __init__(self, con: "duckdb.DuckDBPyConnection", folder: ModelFolder) -> None:
        self.con, self.folder, self.roles = con, folder, folder.roles
        self.wanted, self.count = schema_of(folder), 0
        named = {self.roles.id: "id", self.roles.label: "label", self.roles.time: "time"}
        self.names = [named.get(name, f"c{place}") for place, name in enumerate(self.wanted.types)]
        self._numbered(self.wanted.schema.empty_table(), 0).create("taken")
        con.execute("create table known as select id, label, false as changed from taken")

    def source(self, batches: Iterator[pa.Table], name: str) -> None:
        """Add the source's rows. Raises LoopError if there are none."""
        for batch in batches:
            self._numbered(batch, 0).insert_into("taken")
        if not self.count:
            raise source.empty(name)

    def store(self, logged: Logged, root: Path) -> None:
        """Add the store's rows before `until`, and the labels that were reported by then.

        If the model's rows have no time, all rows of the listed files are added, because the list was made at
        `until`.
        """
        time, undated = self.roles.time, 0
        listing = store.pinned(Project(root, self.folder.name), logged)
        until = pa.scalar(logged.until, MICROSECONDS)
        transactions = list(store.files(listing, "transactions", root))
        wanted = schema_of(self.folder, self.roles.unlogged)
        for number, file in enumerate(transactions, 1):
            for batch in file.batches(wanted):
                undated += batch[time].null_count if time else 0
                timely = batch.filter(pc.less(batch[time], until)) if time else batch
                self._numbered(timely, number).insert_into("taken")
        again = self._drop("file > 0 and id in (select id from taken where file = 0)")
        twice = self._drop_repeated(transactions)
        reports = self._reports(store.files(listing, "labels", root), until)
        [taken] = self._first("select count(*) from taken where file > 0")
        print(
            f"{logged.store}: {taken:,} rows, files: {len(transactions):,}; left out: {again:,} that the "
            f"source has too, {twice:,} that another file has too"
            + (f", {undated:,} without a time" if time else "")
        )
        print(f"{logged.store}: {reports}")

    def groups(self) -> Iterator[pa.Table]:
        """Yield all rows ordered by time, then id, then their order of arrival."""
        schema, names = self.wanted.schema, ", ".join(f"taken.{name}" for name in self.names)
        columns = names.replace("taken.label", "coalesce(known.label, taken.label)")
        by = "taken.time, taken.id, n" if self.roles.time else "taken.id, n"
        query = f"select {columns} from taken left join known on taken.id = known.id order by {by}"  # noqa: S608 — our own names
        left = schema.empty_table()
        for batch in self.con.sql(query).to_arrow_reader(GROUP):
            more = pa.Table.from_batches([batch]).rename_columns(schema.names).cast(schema)
            left = pa.concat_tables([left, more])
            while left.num_rows >= GROUP:
                yield left.slice(0, GROUP).combine_chunks()
                left = left.slice(GROUP)
        if left.num_rows:
            yield left.combine_chunks()

    def _numbered(self, batch: pa.Table, file: int) -> "duckdb.DuckDBPyRelation":
        begin, rows = self.count, batch.num_rows
        self.count += rows
        more = batch.rename_columns(self.names).append_column("n", pa.array(np.arange(begin, self.count)))
        return self.con.from_arrow(more.append_column("file", pa.repeat(pa.scalar(file, pa.int64()), rows)))

    def _drop_repeated(self, found: list[File]) -> int:
        """Remove repeated rows of the store, within and between its files, and return how many there were.

        A copy with a label is preferred. Raises LoopError if two rows with the same id differ otherwise.
        """
        # a missing label is not another value, but in other columns a missing value is one
        values = [name if name == "label" else f"row({name})" for name in self.names]
        counts = ", ".join(f"count(distinct {value})" for value in values)
        rest = ", ".join(name for name in self.names if name != "label")
        self.con.execute(
            """create table twice as select id from taken
            where file > 0 and id is not null group by 1 having count(*) > 1"""
        )
        # the columns are compared for one id only, because for all it takes eight times as long
        differ = self.con.execute(
            f"""select id, list(distinct file order by file), [{counts}]
            from taken where file > 0 and id = (
                select id from taken where file > 0 and id in (select id from twice) group by 1
                having count(distinct row({rest})) > 1 or count(distinct label) > 1 order by 1 limit 1
            ) group by 1"""  # noqa: S608 — our own names
        ).fetchone()
        if differ:
            row, places, counts = differ
            where = " and ".join(found[place - 1].name for place in places)
            columns = [name for name, count in zip(self.wanted.types, counts, strict=True) if count > 1]
            raise LoopError(
                f"{where}: rows contradict each other: where {self.roles.id} is {row!r}, "
                f"{', '.join(columns)} differs",
                fix=f"remove the wrong row; then ./loop pin {self.folder.name}",
            )
        return self._drop(
            """n in (select n from taken where file > 0 and id in (select id from twice)
            qualify row_number() over (partition by id order by label is null, n) > 1)"""
        )

    def _reports(self, found: Iterator[File], until: pa.Scalar) -> str:
        """Fill the table `known` with each id's last label reported by `until`; returns a summary as text."""
        kinds, label, nothing = self.wanted.types, self.roles.label, 0
        types = {self.roles.id: kinds[self.roles.id], label: kinds[label], REPORTED: MICROSECONDS}
        wanted, names = Wanted(types, frozenset(), "the format of label reports"), ["id", "label", "reported"]
        self.con.from_arrow(wanted.schema.empty_table().rename_columns(names)).create("reports")
        for file in found:
            for batch in file.batches(wanted):
                timely = batch.filter(pc.less_equal(batch[REPORTED], until))
                told = timely.filter(timely[label].is_valid())
                nothing += timely.num_rows - told.num_rows
                self.con.from_arrow(told.rename_columns(names)).insert_into("reports")
        self.con.execute(
            """insert into known select id, arg_max(label, row(reported, label)), min(label) != max(label)
            from reports where id is not null group by 1"""
        )
        known, changed = self._first("select count(*), count(*) filter (changed) from known")
        over, used = self._first(
            """select count(*) filter (file = 0 and taken.label != known.label), count(*)
            from taken join known on taken.id = known.id"""
        )
        return (
            f"labels of {known:,} rows; a later report changed an earlier label of {changed:,}, and the "
            f"source's label of {over:,}; {nothing:,} reports without a label were ignored; "
            f"{max(known - used, 0):,} match no row here"
        )

    def _drop(self, where: str) -> int:
        [count] = self._first(f"delete from taken where {where}")  # noqa: S608 — our own condition
        return int(count)

    def _first(self, query: str) -> Any:
        return self.con.execute(query).fetchall()[0]
