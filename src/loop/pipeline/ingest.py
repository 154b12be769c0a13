"""Ingest: the rows of the source, and of what production logged since, in the columns of the schema.

A source is the model's simulator, or one Parquet or CSV file anywhere that fsspec reads, pinned by its
SHA-256. With `logged`, the store's transactions before `until` are appended and labels reported by then
are joined by id; a row that the source has too is dropped from the log, and a label not yet known is null.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import csv

from loop.core import models, params, remote
from loop.core.errors import LoopError
from loop.core.files import sha256, whole
from loop.core.models import ModelFolder
from loop.core.params import Ingest, Logged
from loop.core.paths import ModelPaths

REPORTED = "reported_at"  # when a label came; store/labels/*.parquet holds id, label and this


def main(root: Path, model: str) -> None:
    """Write data/<package>/raw.parquet, by time, then id: same params, same bytes."""
    folder = models.load(root, model)
    table = read(params.load(root, model).ingest, folder, root)
    with whole(ModelPaths(root, model).raw) as aside:
        pq.write_table(table, aside, compression="zstd")


def read(ingest: Ingest, folder: ModelFolder, root: Path) -> pa.Table:
    """All rows that the params name, in the model's COLUMNS; relative paths start at `root`.

    Raises LoopError where a file's bytes are not the pinned ones, or a column is not as the schema says.
    """
    if ingest.source == "simulator":
        world = folder.section("source", ingest.simulator)
        table = conform(folder.source.simulate(world), folder, "simulator")
    else:
        table = _file(ingest, folder, root)
    if ingest.logged:
        table = _append(table, ingest.logged, folder, root)
    roles = folder.roles
    return table.sort_by([(name, "ascending") for name in (roles.time, roles.id) if name]).combine_chunks()


def source_sha256(source: str, root: Path) -> str:
    """SHA-256 of a file source's bytes as they are now."""
    with _local(source, root) as path:
        return sha256(path)


def conform(table: pa.Table, folder: ModelFolder, file: str, absent: tuple[str, ...] = ()) -> pa.Table:
    """The table in the model's COLUMNS and types; a column in `absent` or ROLES.never may lack, and is null.

    Raises LoopError with file, column, what was found and what is expected; casts only lose nothing.
    """
    optional = {*absent, *folder.roles.never}
    columns, found = {}, _names(table, file)
    for name, kind in folder.schema.COLUMNS.items():
        expected = pa.type_for_alias(kind)
        if name in found:
            columns[name] = _cast(table[name], expected, f"{file}: column {name}")
        elif name in optional:
            columns[name] = pa.nulls(table.num_rows, expected)
        else:
            raise LoopError(
                f"{file}: column {name}: found only {', '.join(found)}; expected {expected}",
                fix=f"add it to the file, or take it out of {folder.schema.__name__}.COLUMNS",
            )
    return pa.table(columns)


def _names(table: pa.Table, file: str) -> list[str]:
    """The names of a table's columns; LoopError where they are no text, or two columns share one."""
    try:
        names: list[str] = table.column_names
    except UnicodeDecodeError as error:
        raise LoopError(f"{file}: a column's name: {error}", fix="write the file again in UTF-8") from error
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise LoopError(f"{file}: column {twice[0]}: is there twice", fix="keep the one that is meant")
    return names


def _file(ingest: Ingest, folder: ModelFolder, root: Path) -> pa.Table:
    with _local(ingest.source, root) as path:
        if (found := sha256(path)) != ingest.sha256:
            raise LoopError(
                f"{ingest.source}: found SHA-256 {found}, params.yaml models.{folder.name}.ingest.sha256 "
                f"is {ingest.sha256}",
                fix=f"./loop pin {folder.name}, if the new bytes are meant",
            )
        return conform(_parse(path, ingest.source), folder, ingest.source)


@contextmanager
def _local(source: str, root: Path) -> Iterator[Path]:
    """A file source on this machine; a remote one is fetched once, so what is hashed is what is read."""
    if "://" not in source:
        if not (path := root / source).is_file():
            raise LoopError(f"{path}: no such file", fix="set ingest.source in params.yaml to one, or a URL")
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="loop-source-") as scratch:
        path = Path(scratch) / "source"
        with _reaching(source):
            remote.fetch(source, path)
        yield path


@contextmanager
def _reaching(place: str) -> Iterator[None]:
    """Name the place that cannot be read."""
    try:
        yield
    except LoopError:
        raise
    except Exception as error:  # every file system raises errors of its own
        said = f"{type(error).__name__}: {error}"
        raise LoopError(f"{place}: cannot be read: {said}", fix="check the place and access to it") from error


def _parse(path: Path, name: str) -> pa.Table:
    """Parquet or CSV, by the source's name."""
    plain = name.partition("?")[0]
    try:
        if plain.endswith(".parquet"):
            return pq.read_table(path, partitioning=None)
        if plain.endswith((".csv", ".csv.gz")):
            with pa.input_stream(str(path), "gzip" if plain.endswith(".gz") else None) as stream:
                return csv.read_csv(stream)
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        raise LoopError(f"{name}: cannot be read: {error}", fix="write it again as Parquet or CSV") from error
    raise LoopError(f"{name}: neither Parquet nor CSV", fix="its name ends in .parquet, .csv or .csv.gz")


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
        cast = column.cast(expected)
        same = pc.all(pc.equal(cast.cast(column.type), column)).as_py()
    except pa.ArrowException as why:
        raise LoopError(f"{where}: found {column.type}, expected {expected}: {why}", fix=error.fix) from why
    if same is False:
        raise error
    return cast


def _family(kind: pa.DataType) -> str:
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        return "number"
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return "time"
    return "text" if pa.types.is_string(kind) or pa.types.is_large_string(kind) else str(kind)


def _append(table: pa.Table, logged: Logged, folder: ModelFolder, root: Path) -> pa.Table:
    """The table, then what the store logged; labels that came since fill the unknown ones of both."""
    roles = folder.roles
    if roles.time is None:
        raise LoopError(
            f"params.yaml: models.{folder.name}.ingest.logged: {folder.name} has no time to cut its log at",
            fix="drop `logged`, or name ROLES.time in the model's schema",
        )
    until = pa.scalar(naive(logged.until), pa.timestamp("us"))
    parts = [table]
    for name, part in _store(logged.store, "transactions", root):
        rows = conform(part, folder, name, absent=(roles.label,))
        new = pc.and_(pc.less(rows[roles.time], until), pc.invert(pc.is_in(rows[roles.id], table[roles.id])))
        parts.append(rows.filter(new))
    whole_log = pa.concat_tables(parts)
    reported = _labels(logged.store, until, folder, root)
    known = reported[roles.label].take(pc.index_in(whole_log[roles.id], reported[roles.id]))
    place = whole_log.column_names.index(roles.label)
    return whole_log.set_column(place, roles.label, pc.coalesce(whole_log[roles.label], known))


def naive(instant: datetime) -> datetime:
    """The instant in UTC, without its zone, as every table here writes time."""
    return instant.astimezone(UTC).replace(tzinfo=None) if instant.tzinfo else instant


def _labels(store: str, until: pa.Scalar, folder: ModelFolder, root: Path) -> pa.Table:
    """Labels reported by `until`, the latest report of each id first."""
    roles = folder.roles
    types = {name: pa.type_for_alias(folder.schema.COLUMNS[name]) for name in (roles.id, roles.label)}
    types[REPORTED] = until.type
    parts = [pa.schema(types).empty_table()]
    for name, part in _store(store, "labels", root):
        found = _names(part, name)
        if missing := [column for column in types if column not in found]:
            raise LoopError(f"{name}: column {missing[0]}: not found among {', '.join(found)}")
        parts.append(pa.table({c: _cast(part[c], kind, f"{name}: column {c}") for c, kind in types.items()}))
    labels = pa.concat_tables(parts)
    in_time = labels.filter(pc.less_equal(labels[REPORTED], until))
    return in_time.sort_by([(REPORTED, "descending"), (roles.label, "descending")]).combine_chunks()


def _store(store: str, part: str, root: Path) -> Iterator[tuple[str, pa.Table]]:
    """Each Parquet file of one part of the store, by name."""
    base = store if "://" in store else str(root / store)
    place = f"{base.rstrip('/')}/{part}"
    with _reaching(place):
        system, folder = remote.filesystem(place)
        names = sorted(system.glob(f"{folder}/*.parquet"))
    if part == "transactions" and not names:
        raise LoopError(f"{place}: holds no *.parquet", fix="check ingest.logged.store in params.yaml")
    for name in names:
        with _reaching(name), system.open(name) as file:
            table = pq.read_table(file)
        yield name, table
