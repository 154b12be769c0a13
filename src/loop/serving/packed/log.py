"""The prediction log: JSON lines, one file a process, rotated, kept for days; it never holds an answer up.

An answer only puts its rows into a bounded queue. A thread writes what has gathered, in whole lines. A full
queue costs its lines, a full disk the oldest file in the folder: they are counted, and nothing else is lost.
"""

import errno
import os
import socket
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from sys import getsizeof
from threading import Event, Lock, Thread
from time import time, time_ns
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from loop.serving.packed.model import Release

LINES = 20_000  # in the queue: some seconds of traffic
QUEUED = 32 * 1024 * 1024  # bytes in the queue; with wide rows this limit is reached before LINES
REQUEST, ROW, NUMBER = 800, 32, 32  # bytes of Python's own around a request, a row and a score
BYTES = 64 * 1024 * 1024  # a file, before the next is begun
DAY = 86_400  # seconds
DAYS = 16  # kept: the monitor's week, a week until its labels have come, and two to mend what stops it
FULL = (errno.ENOSPC, errno.EDQUOT)
AT_ONCE = 1024 * 1024  # bytes, in one write
GATHER = 0.05  # seconds in which lines gather for one write
ENCODER = msgspec.json.Encoder()


class Line(msgspec.Struct, frozen=True):
    """One prediction, as the monitor reads it."""

    time: str
    id: int | str | None
    model: str
    version: str
    features: list[float]
    score: float | list[float]
    class_: int = msgspec.field(name="class")


class Scored(NamedTuple):
    """What one request asked and was answered."""

    time: float  # Unix
    ids: list[int | str | None]
    values: NDArray[np.float32]
    scores: list[Any]
    classes: list[int]

    @property
    def size(self) -> int:
        """Bytes of memory that it takes while it waits, about."""
        each = len(self.scores[0]) + 2 if isinstance(self.scores[0], list) else 1
        rows = len(self.ids) * (ROW + NUMBER * each) + sum(map(getsizeof, self.ids))
        return REQUEST + rows + self.values.nbytes

    def lines(self, release: Release) -> Iterator[Line]:
        time = datetime.fromtimestamp(self.time, UTC).isoformat()
        rows = zip(self.ids, self.values.tolist(), self.scores, self.classes, strict=True)
        for one, features, score, label in rows:
            yield Line(time, one, release.model, release.key, features, score, label)


class PredictionLog:
    """Appends to `folder`/<host>-<pid>.jsonl until it is closed; `dropped` is told of each lost line.

    The queue holds `lines`, and QUEUED bytes at most. What was last written `days` ago, by whatever process,
    is removed.
    """

    def __init__(
        self,
        folder: Path,
        release: Release,
        dropped: Callable[[int], None],
        *,
        days: float = DAYS,
        lines: int = LINES,
    ) -> None:
        self._release, self._dropped, self._most = release, dropped, lines
        self._waiting: deque[Scored] = deque()
        self._count, self._bytes, self._lock = 0, 0, Lock()
        self._some, self._closing = Event(), Event()
        self._file = _File(folder / f"{socket.gethostname()}-{os.getpid()}.jsonl", days)
        self._thread = Thread(target=self._drain, name="prediction-log", daemon=True)
        self._thread.start()

    def write(self, scored: Scored) -> None:
        """Queue an answer's lines, or count them as dropped; never waits."""
        count, size = len(scored.ids), scored.size
        with self._lock:
            if fits := self._count + count <= self._most and self._bytes + size <= QUEUED:
                self._count += count
                self._bytes += size
                self._waiting.append(scored)
        if fits:
            self._some.set()
        else:
            self._dropped(count)

    def close(self, seconds: float = 5) -> None:
        """Write what is queued, for `seconds` at most."""
        self._closing.set()
        self._some.set()
        self._thread.join(seconds)

    def _drain(self) -> None:
        while not self._closing.is_set():
            self._some.wait()
            self._closing.wait(GATHER)
            self._some.clear()
            self._write_waiting()
        self._write_waiting()
        self._file.close()

    def _write_waiting(self) -> None:
        """Append the lines that wait, as much at a time as may stand in a file."""
        pending, count = bytearray(), 0
        for line in self._lines():
            encoded = ENCODER.encode(line)
            if pending and len(pending) + len(encoded) >= AT_ONCE:
                self._append(pending, count)
                pending, count = bytearray(), 0
            pending += encoded + b"\n"
            count += 1
        if pending:
            self._append(pending, count)

    def _lines(self) -> Iterator[Line]:
        while self._waiting:
            with self._lock:
                scored = self._waiting.popleft()
                self._count -= len(scored.ids)
                self._bytes -= scored.size
            yield from scored.lines(self._release)

    def _append(self, content: bytearray, lines: int) -> None:
        """Append lines; on a full disk the oldest file goes for them, and they only where there is none."""
        while True:
            try:
                self._file.append(content)
            except OSError as error:
                oldest = self._file.make_room() if error.errno in FULL else 0
                self._dropped(oldest or lines)
                if oldest:
                    continue
            return


class _File:
    """A file of whole lines: set aside before it is over BYTES, cut back to its last whole line on an error.

    Many processes share the folder, and keep it in order for each other: what was last written `days` ago is
    removed whenever a file is begun.
    """

    def __init__(self, path: Path, days: float) -> None:
        self._path, self._days, self._descriptor, self._size = path, days, -1, 0

    def append(self, content: bytearray) -> None:
        """Append; OSError when the disk does not take all of it."""
        if self._size and self._size + len(content) > BYTES:
            self._set_aside()
        if self._descriptor >= 0 and not os.fstat(self._descriptor).st_nlink:
            self.close()  # silent for so long that another process has removed it
        if self._descriptor < 0:
            self._open()
        written = 0
        try:
            written = os.write(self._descriptor, content)
        finally:
            if written < len(content):
                with suppress(OSError):
                    os.ftruncate(self._descriptor, self._size)
                self.close()  # opened again for the next line: the disk may have room then
        if written < len(content):
            raise OSError(errno.ENOSPC, f"took {written} of {len(content)} bytes", str(self._path))
        self._size += written

    def make_room(self) -> int:
        """Remove the file that was written longest ago; returns how many lines went, 0 for no file."""
        for path in sorted(self._others(), key=_written)[:1]:
            with suppress(OSError), path.open("rb") as file:
                lines = sum(part.count(b"\n") for part in iter(partial(file.read, AT_ONCE), b""))
                path.unlink()
                return lines
        return 0

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def _open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        for path in self._others():
            if 0 < _written(path) < time() - self._days * DAY:
                path.unlink(missing_ok=True)
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._size = os.fstat(self._descriptor).st_size

    def _set_aside(self) -> None:
        """x.jsonl becomes x.<Unix time, ns>.jsonl, which nobody writes to again; *.jsonl are all of them."""
        self.close()
        with suppress(FileNotFoundError):
            self._path.rename(self._path.with_suffix(f".{time_ns()}.jsonl"))
        self._size = 0

    def _others(self) -> list[Path]:
        return [path for path in self._path.parent.glob("*.jsonl") if path != self._path]


def _written(path: Path) -> float:
    """When a file was last written, Unix time; 0 where another process has just removed it."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0
