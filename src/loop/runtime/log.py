"""The prediction log: one file of JSON lines per process, rotated and deleted after some days.

Requests never wait for the disk: their lines go into a bounded queue, and a thread writes whole lines. If
the queue is full, new lines are dropped; if the disk is full, the oldest file is deleted. Lost lines are
counted. While a failure lasts, it is logged to stderr once a minute.
"""

import errno
import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from itertools import repeat
from math import inf
from pathlib import Path
from stat import S_ISREG
from threading import Event, Lock, Thread
from time import monotonic, time, time_ns
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from loop.runtime.model import Label, Release

QUEUED = 32 * 1024 * 1024  # maximum bytes in the log's queue, some seconds of traffic
BYTES = 64 * 1024 * 1024  # bytes of a log file after which a new one is started
DAY = 86_400  # seconds in a day
DAYS = 16  # days to keep log files: 7 that the monitor reads, 7 until labels arrive, 2 to repair the monitor
# the monitor converts closed .jsonl files to .parquet and keeps their modification times
SUFFIXES = (".jsonl", ".parquet")
FULL = (errno.ENOSPC, errno.EDQUOT)
ROWS = 64  # rows that are encoded in one call, during which no other thread can run
AT_ONCE = 1024 * 1024  # bytes of lines that are written together
GATHER = 0.05  # seconds for which the log collects lines before it writes them
QUIET = 60.0  # seconds in which a kind of failure is logged only once
REMOVING = "removing the oldest files"
ENCODER = msgspec.json.Encoder()

logger = logging.getLogger(__name__)


class Line(msgspec.Struct, frozen=True):
    """One line of the log: a prediction, as the monitor reads it."""

    time: str
    id: int | str | None
    model: str
    version: str
    features: list[float]  # the row's profile; NaN is written as null
    score: float  # for more than two classes, the score of the class in the response
    class_: Label | msgspec.UnsetType = msgspec.field(name="class", default=msgspec.UNSET)
    # for more than two classes, the score of each class
    scores: list[float] | msgspec.UnsetType = msgspec.UNSET


class Trouble:
    """Logs what fails, each kind of error at most once in QUIET seconds."""

    def __init__(self) -> None:
        self._told: dict[object, float] = {}

    def fails(self, what: str, where: object, why: object) -> None:
        kind, said = (why.errno, why.strerror) if isinstance(why, OSError) else (type(why), why)
        if monotonic() - self._told.get((what, kind), -inf) >= QUIET:
            self._told[what, kind] = monotonic()
            logger.error("prediction log: %s failed: %s: %s", what, where, said)

    @contextmanager
    def watching(self, what: str, where: object) -> Iterator[None]:
        """Report an OSError of the block instead of raising it."""
        try:
            yield
        except OSError as error:
            self.fails(what, where, error)


class PredictionLog:
    """Appends predictions to `folder`/<host>-<pid>.jsonl until it is closed.

    `dropped` is called with the number of lost lines. The queue holds at most QUEUED bytes. Files in the
    folder, from any process, are deleted `days` days after their last write.
    """

    def __init__(
        self, folder: Path, release: Release, dropped: Callable[[int], None], days: float = DAYS
    ) -> None:
        self._release, self._dropped = release, dropped
        self._waiting: deque[bytearray] = deque()  # lines, in parts of about AT_ONCE bytes
        self._bytes, self._lock = 0, Lock()  # of all parts
        self._some, self._closing = Event(), Event()
        self._trouble = Trouble()
        self._file = _File(folder / f"{socket.gethostname()}-{os.getpid()}.jsonl", days, self._trouble)
        self._thread = Thread(target=self._drain, name="prediction-log", daemon=True)
        self._thread.start()

    def write(
        self,
        ids: Sequence[int | str | None],
        values: NDArray[np.float32],
        scores: Sequence[float],
        classes: Sequence[Label | msgspec.UnsetType],
        wide: Sequence[list[float]] | None = None,
    ) -> None:
        """Queue a line for each row, or count it as dropped if the queue is full. It neither waits nor fails.

        `values` is the rows' profile (n, numbers), and `wide` the score of each class.
        """
        now, model, version = datetime.now(UTC).isoformat(), self._release.model, self._release.key
        for start in range(0, len(ids), ROWS):
            part = slice(start, start + ROWS)
            every: Iterable[Any] = wide[part] if wide else repeat(msgspec.UNSET)
            numbers = values[part].tolist()
            rows = zip(ids[part], numbers, scores[part], classes[part], every, strict=False)
            try:
                # a list, because msgspec 0.22.0 never frees any other iterable
                lines = [
                    Line(now, one, model, version, features, score, label, each)
                    for one, features, score, label, each in rows
                ]
                self._put(ENCODER.encode_lines(lines))
            except Exception as error:  # noqa: BLE001 - the lines of other rows are still written
                self._dropped(len(numbers))
                self._trouble.fails("encoding lines", self._file.path, error)

    def _put(self, encoded: bytes) -> None:
        with self._lock:
            if fits := self._bytes + len(encoded) <= QUEUED:
                if not self._waiting or len(self._waiting[-1]) >= AT_ONCE:
                    self._waiting.append(bytearray())
                self._waiting[-1].extend(encoded)
                self._bytes += len(encoded)
        if not fits:
            self._dropped(encoded.count(b"\n"))
            told = f"{self._bytes} bytes wait in the queue, so new lines are dropped"
            self._trouble.fails("keeping up", self._file.path, told)
        elif not self._some.is_set():  # asking is faster than setting it again
            self._some.set()

    def close(self, seconds: float = 5) -> None:
        """Write the queued lines, for at most `seconds` seconds."""
        self._closing.set()
        self._some.set()
        self._thread.join(seconds)
        if self._thread.is_alive():
            told = "prediction log: %s: the server stops after waiting %g s; at least %d lines are lost"
            lost = sum(part.count(b"\n") for part in tuple(self._waiting))  # the thread still takes parts out
            logger.error(told, self._file.path, seconds, lost)

    def _drain(self) -> None:
        with self._trouble.watching("writing", self._file.path):
            self._file.look()
        while not self._closing.is_set():
            self._some.wait()
            self._closing.wait(GATHER)
            self._some.clear()
            self._write_waiting()
        self._write_waiting()

    def _write_waiting(self) -> None:
        while self._waiting:
            with self._lock:
                content = self._waiting.popleft()
                self._bytes -= len(content)
            self._append(content)

    def _append(self, content: bytearray) -> None:
        """Append lines to the file; if the disk is full, delete old files, or else drop the lines."""
        while True:
            try:
                return self._file.append(content)
            except OSError as error:
                self._trouble.fails("writing", self._file.path, error)
                went = self._file.make_room() if error.errno in FULL else None
                self._dropped(content.count(b"\n") if went is None else went)
                if went is None:
                    return None


class _File:
    """A log file of whole lines.

    It is opened for each write, so that no write depends on an earlier one, and renamed once it has BYTES
    bytes. Several processes share the folder: whenever a process starts a file, it deletes all files that
    were last written more than `days` days ago. A file that cannot be read, deleted or renamed does not stop
    logging.
    """

    def __init__(self, path: Path, days: float, trouble: Trouble) -> None:
        self.path, self._days, self._trouble = path, days, trouble

    def look(self) -> None:
        """Raise OSError if the folder cannot be created or is not writable."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(self.path.parent, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "the folder is not writable")

    def append(self, content: bytearray) -> None:
        """Append `content` to the file. Raises OSError if the disk does not accept all of it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab", buffering=0) as file:
            begin = file.tell()
            if not begin:
                self._remove_old()
            if (written := file.write(content)) < len(content):
                file.truncate(begin)  # so that the next line does not begin in the middle of this one
                raise OSError(errno.ENOSPC, f"the disk accepted {written} of {len(content)} bytes")
        if begin + written >= BYTES:
            # x.jsonl becomes x.<Unix time in ns>.jsonl; if renaming fails, the file keeps growing
            with self._trouble.watching("beginning a new file", self.path):
                self.path.rename(self.path.with_suffix(f".{time_ns()}.jsonl"))

    def make_room(self) -> int | None:
        """Delete the oldest file that can be deleted.

        Returns its number of lines, or None if nothing can be deleted.
        """
        for _, path in self._others():
            try:
                lines = _lines_of(path)
                path.unlink()
            except FileNotFoundError:
                return 0  # another process has deleted the log file and counted its lines
            except OSError as error:
                self._trouble.fails(REMOVING, path, error)
            else:
                return lines
        return None

    def _remove_old(self) -> None:
        for written, path in self._others():
            if written >= time() - self._days * DAY:
                break
            with self._trouble.watching(REMOVING, path):
                path.unlink(missing_ok=True)

    def _others(self) -> list[tuple[float, Path]]:
        """Return the other files of the log with their modification times (Unix time), the oldest first."""
        found, folder = [], self.path.parent
        with self._trouble.watching(REMOVING, folder):
            for path in [path for path in folder.iterdir() if path.suffix in SUFFIXES and path != self.path]:
                with self._trouble.watching(REMOVING, path), suppress(FileNotFoundError):
                    status = path.stat()
                    if S_ISREG(status.st_mode):
                        found.append((status.st_mtime, path))
        return sorted(found)


def _lines_of(path: Path) -> int:
    """Return the number of lines in a log file; a converted file's name has it: <name>.<lines>.parquet."""
    if path.suffix == ".parquet":
        said = path.name.split(".")[-2]
        return int(said) if said.isdigit() else 0
    with path.open("rb") as file:
        return sum(part.count(b"\n") for part in iter(partial(file.read, AT_ONCE), b""))
