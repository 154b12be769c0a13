"""Converts the prediction log to Parquet, so that a check of production reads only the columns it needs.

A server appends to `<host>-<pid>.jsonl` and renames the file to `<host>-<pid>.<ns>.jsonl` once it is full.
Such a closed file is converted once, to `<host>-<pid>.<ns>.<lines>.parquet` beside it, if this process may
write there. All other lines are converted into a temporary folder at each run. If a conversion was killed,
both files may exist, and the Parquet file is used.
"""
# ruff: noqa: S608 — SQL is built from our own text and quoted file names

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import time
from typing import TYPE_CHECKING
from uuid import uuid4

from loop.core.errors import LoopError
from loop.core.text import one_line
from loop.monitoring.ids import parquet

if TYPE_CHECKING:
    import duckdb

CLOSED = re.compile(r"(?P<segment>.+\.\d{19})\.jsonl")  # a full file that no server writes to any more
CONVERTED = re.compile(r"(?P<segment>.+\.\d{19})\.\d+\.parquet")
ASIDE = ".converting"  # suffix of a file that is still being written; readers and servers ignore it
SETTLED = 60.0  # seconds after its last write, before which a network file system may show a file incomplete
ABANDONED = 86_400.0  # seconds after which the leftovers of a killed conversion are deleted
SPREAD = 1 << 20  # range of the row hash that decides which rows a sample takes
GROUP = 16_384  # rows per Parquet row group, which is read or skipped as a whole
LINE = (
    "{time: 'TIMESTAMPTZ', id: 'VARCHAR', model: 'VARCHAR', version: 'VARCHAR',"
    " features: 'FLOAT[]', score: 'JSON', scores: 'DOUBLE[]', class: 'VARCHAR'}"
)
LINES = f"read_json($1, columns = {LINE}, format = 'newline_delimited', ignore_errors = true)"
# Log lines from before the column `scores` existed have the scores of several classes as a list in `score`.
SCORE = "coalesce(try_cast(score as double), list_max(try_cast(score as double[])))"
# `place` is a hash that decides which rows a sample takes. Files are sorted by it, so that a sample reads
# only a part of each file. `whole` is the id as a number, if it is one, so that it is parsed only once.
WHOLE = "case when regexp_full_match(id, '-?[0-9]{1,18}') then try_cast(id as bigint) end"
COLUMNS = f"""time, id, {WHOLE} as whole, model, version, features, len(features)::usmallint as width,
    {SCORE} as score, coalesce(scores, try_cast(score as double[])) as scores, class,
    (hash(time, id, features) % {SPREAD})::uinteger as place"""


def of(con: "duckdb.DuckDBPyConnection", log: str) -> tuple[list[str], int]:
    """Return Parquet files with all lines of a log, and how many files cannot be read.

    A line that is cut off or merged with the next, because a server was killed, becomes a row of nulls.
    Raises LoopError if there is no log.
    """
    where = log.rstrip("/")
    [(temporary,)] = con.execute("select current_setting('temp_directory')").fetchall()
    aside = Path(temporary).with_name("lines.parquet")
    while True:
        if "://" not in log:
            _convert_closed(con, Path(log))
        lines, columnar = (found(con, f"{where}/{names}") for names in ("*.jsonl*", "*.parquet"))
        if not lines and not columnar:
            fix = "serve with PREDICTION_LOG_DIR set to it, or name another --log"
            raise LoopError(f"{log} has no *.jsonl file", fix=fix)
        converted = _segments(CONVERTED, columnar)
        rest = [file for file in lines if converted.isdisjoint(_segments(CLOSED, [file]))]
        cut = _convert(con, rest, aside) if rest else 0
        # Another monitor may have converted a file since it was listed, or a server may have deleted it.
        if cut and any("://" not in file and not os.path.lexists(file) for file in rest):
            continue
        files = [*columnar, *([str(aside)] if cut < len(rest) else [])]
        if not files:
            raise LoopError(f"{log}: none of its {len(rest)} files can be read", fix="remove them")
        return files, cut


def found(con: "duckdb.DuckDBPyConnection", pattern: str) -> list[str]:
    """Return the files that match a pattern, sorted. Raises LoopError if the location cannot be read."""
    if "://" not in pattern:
        folder = pattern.partition("*")[0]
        try:  # DuckDB would treat a folder that this user may not read as empty
            with suppress(FileNotFoundError):
                os.scandir(folder).close()
        except OSError as error:
            fix = f"give user {os.geteuid()} access to it and to every folder above it"
            raise LoopError(f"{folder}: cannot be read: {error.strerror}", fix=fix) from error
    with reading(pattern, "check the location and your access to it"):
        names = con.execute("select file from glob($1) order by 1", [pattern]).fetchall()
    return [row[0] for row in names]


@contextmanager
def reading(what: str | None, fix: str) -> Iterator[None]:
    """Turn errors of DuckDB, such as a missing column, into a LoopError; too little memory stays as it is."""
    import duckdb

    try:
        yield
    except duckdb.OutOfMemoryException:
        raise
    except duckdb.Error as error:  # its message may hold a traceback or the query
        why = next((line for line in reversed(str(error).splitlines()) if "Error: " in line), error)
        raise LoopError(f"{what}: cannot be read: {one_line(why)}", fix=fix) from error


def _segments(form: re.Pattern[str], files: Iterable[str]) -> set[str]:
    """Return the segments that files of this form belong to."""
    return {match["segment"] for file in files if (match := form.fullmatch(file))}


def _convert_closed(con: "duckdb.DuckDBPyConnection", folder: Path) -> None:
    """Convert the files that servers have closed, if this process may write to the folder.

    No lock is held, because shared file systems often do not support locks. Two monitors at the same time
    write the same content, each to its own temporary file.
    """
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        return
    paths = sorted(folder.iterdir())
    converted = _segments(CONVERTED, (path.name for path in paths))
    for path in paths:
        with suppress(FileNotFoundError):  # another monitor converted the file, or a server deleted it
            age = time() - path.stat().st_mtime
            if path.suffix == ASIDE and age > ABANDONED:
                path.unlink()
            elif (closed := CLOSED.fullmatch(path.name)) and age > SETTLED:
                segment = closed["segment"]
                if segment in converted or _convert_one(con, path, segment):
                    path.unlink()


def _convert_one(con: "duckdb.DuckDBPyConnection", path: Path, segment: str) -> bool:
    """Convert one file; returns whether it worked. A file with unreadable lines is kept, as evidence."""
    status, aside = path.stat(), path.with_name(f".{segment}.{uuid4().hex}{ASIDE}")
    if _convert(con, [str(path)], aside):
        aside.unlink(missing_ok=True)
        return False
    lines = con.execute(f"select count(*) from {parquet([str(aside)])}").fetchall()[0][0]
    with aside.open("rb") as file:
        os.fsync(file.fileno())
    # keep the file's age, by which servers delete old files
    os.utime(aside, ns=(status.st_atime_ns, status.st_mtime_ns))
    aside.rename(path.with_name(f"{segment}.{lines}.parquet"))
    return True


def _convert(con: "duckdb.DuckDBPyConnection", files: list[str], to: Path) -> int:
    """Write the lines of JSON files as Parquet; returns how many files cannot be read."""
    target = str(to).replace("'", "''")
    copy = f"""copy (select {COLUMNS} from {LINES} order by place) to '{target}'
        (format parquet, compression zstd, row_group_size {GROUP})"""
    with suppress(LoopError), reading(files[0], ""):
        con.execute(copy, [files])
        return 0
    readable = [file for file in files if _is_readable(con, file)]
    if readable:
        with reading(files[0], "remove the file that the message names"):
            con.execute(copy, [readable])
    return len(files) - len(readable)


def _is_readable(con: "duckdb.DuckDBPyConnection", file: str) -> bool:
    """Whether DuckDB can unpack a file, and it has no line of over 16 MB, which no server writes."""
    with suppress(LoopError), reading(file, ""):
        con.execute(f"select count(*) from {LINES}", [[file]])
        return True
    return False
