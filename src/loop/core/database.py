"""A database for one run: bounded memory, its files in a folder that goes with the run."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from loop.core.files import locked
from loop.core.remote import filesystem

if TYPE_CHECKING:
    import duckdb

MEMORY = "1GB"  # that DuckDB may take: tables and what is more go to its files
THREADS = 8  # at most: each takes some of the memory
PREFIX = "loop-duckdb-"


@contextmanager
def opened(
    *urls: str | None, memory: str = MEMORY, threads: int = THREADS
) -> "Iterator[duckdb.DuckDBPyConnection]":
    """DuckDB that reads these places; what is not a local path goes through fsspec."""
    import duckdb

    with scratch() as folder, duckdb.connect(folder / "tables.duckdb") as con:
        con.execute("set timezone = 'UTC'")
        con.execute(f"set memory_limit = '{memory}'")
        con.execute(f"set threads = {min(threads, os.cpu_count() or 1)}")
        con.execute("set preserve_insertion_order = false")  # or reading holds back what came early
        con.execute(f"set temp_directory = '{folder}/spilled'")
        for url in urls:
            if url and "://" in url and not url.startswith("file://"):
                _register(con, url)
        yield con


def _register(con: "duckdb.DuckDBPyConnection", url: str) -> None:
    fs, _ = filesystem(url)
    if not con.filesystem_is_registered(fs.protocol if isinstance(fs.protocol, str) else fs.protocol[0]):
        con.register_filesystem(fs)


@contextmanager
def scratch() -> Iterator[Path]:
    """A temporary folder of this run; those that killed runs left are taken away first."""
    parent = Path(tempfile.gettempdir())
    with ExitStack() as held:
        with locked(parent):  # no other run sees a folder that is not locked yet
            for left in parent.glob(f"{PREFIX}*"):
                with suppress(OSError), locked(left, fcntl.LOCK_NB):
                    shutil.rmtree(left, ignore_errors=True)
            folder = Path(
                held.enter_context(tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True))
            )
            held.enter_context(locked(folder))
        yield folder
