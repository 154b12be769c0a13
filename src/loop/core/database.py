"""Opens a temporary DuckDB database with limited memory, whose files are deleted when the command ends."""

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

MEMORY = "1GB"  # memory limit of DuckDB, which writes to its temporary files beyond it
THREADS = 8  # maximum number of threads, because each needs part of the memory
PREFIX = "loop-duckdb-"


@contextmanager
def opened(
    *urls: str | None, memory: str = MEMORY, threads: int = THREADS
) -> "Iterator[duckdb.DuckDBPyConnection]":
    """Yield a connection to a temporary DuckDB database that can read `urls` (through fsspec)."""
    import duckdb

    with scratch() as folder, duckdb.connect(folder / "tables.duckdb") as con:
        con.execute("set timezone = 'UTC'")
        con.execute(f"set memory_limit = '{memory}'")
        con.execute(f"set threads = {min(threads, os.cpu_count() or 1)}")
        # if DuckDB had to preserve the order of rows, it would keep rows that are read early in memory
        con.execute("set preserve_insertion_order = false")
        con.execute(f"set temp_directory = '{folder}/spilled'")
        for url in urls:
            if url and "://" in url and not url.startswith("file://"):
                fs, _ = filesystem(url)
                name = fs.protocol if isinstance(fs.protocol, str) else fs.protocol[0]
                if not con.filesystem_is_registered(name):
                    con.register_filesystem(fs)
        yield con


@contextmanager
def scratch() -> Iterator[Path]:
    """Yield a temporary folder. Folders that killed processes left behind are removed first."""
    parent = Path(tempfile.gettempdir())
    with ExitStack() as held:
        # The parent folder stays locked until the new folder is locked, so that no other process removes the
        # new folder.
        with locked(parent):
            for left in parent.glob(f"{PREFIX}*"):
                with suppress(OSError), locked(left, fcntl.LOCK_NB):
                    shutil.rmtree(left, ignore_errors=True)
            folder = Path(
                held.enter_context(tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True))
            )
            held.enter_context(locked(folder))
        yield folder
