"""The prediction log: JSON lines, one file a process, rotated, kept for days; it never holds an answer up.

An answer only puts its rows into a bounded queue. A thread writes what has gathered, in whole lines. A full
queue costs its lines, a full disk the oldest file in the folder: they are counted, and nothing else is lost.
What fails is told on stderr when it begins and when it is over.
"""

import errno
import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from itertools import repeat
from pathlib import Path
from stat import S_ISREG
from sys import getsizeof
from threading import Event, Lock, Thread
from time import monotonic, time, time_ns
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from loop.runtime.model import Label, Release

LINES = 20_000  # in the queue: some seconds of traffic
QUEUED = 32 * 1024 * 1024  # bytes in the queue; with wide rows this limit is reached before LINES
REQUEST, ROW, NUMBER = 800, 32, 32  # bytes of Python's own around a request, a row and a score
BYTES = 64 * 1024 * 1024  # a file, before the next is begun
DAY = 86_400  # seconds
DAYS = 16  # kept: the monitor's week, a week until its labels have come, and two to mend what stops it
SUFFIXES = (".jsonl", ".parquet")  # the monitor converts what was set aside, and keeps when it was written
FULL = (errno.ENOSPC, errno.EDQUOT)
AT_ONCE = 1024 * 1024  # bytes, in one write
GATHER = 0.05  # seconds in which lines gather for one write
QUIET = 60.0  # seconds without a failure after which one is over: a full disk fails and works by turns
ENCODER = msgspec.json.Encoder()

logger = logging.getLogger(__name__)


class Line(msgspec.Struct, frozen=True):
    """One prediction, as the monitor reads it."""

    time: str
    id: int | str | None
    model: str
    version: str
    features: list[float]  # the profile; NaN is written as null
    score: float  # of several classes, that of the class which was answered
    class_: Label | msgspec.UnsetType = msgspec.field(name="class", default=msgspec.UNSET)
    scores: list[float] | msgspec.UnsetType = msgspec.UNSET  # of several classes, each one's


class Scored(msgspec.Struct, frozen=True):
    """What one request asked and was answered."""

    time: float  # Unix
    ids: list[int | str | None]
    values: NDArray[np.float32]  # the rows' profile
    scores: list[float]  # one number a row
    classes: list[Label | msgspec.UnsetType]
    wide: list[list[float]] | None = None  # each class's score, or an embedding's vector, which is not logged
    beside: dict[str, list[Any]] | None = None  # what the model's own `answer` says of each row, not logged

    @property
    def answer(self) -> list[Any]:
        """Each row's answer: one number, the score of each class, or a vector."""
        return self.scores if self.wide is None else self.wide

    @property
    def size(self) -> int:
        """Bytes of memory that it takes while it waits, about."""
        each = len(self.wide[0]) + 3 if self.wide else 1
        rows = len(self.ids) * (ROW + NUMBER * each) + sum(map(getsizeof, self.ids))
        return REQUEST + rows + self.values.nbytes

    def lines(self, release: Release) -> Iterator[Line]:
        time = datetime.fromtimestamp(self.time, UTC).isoformat()
        of_classes = self.wide if self.classes[0] is not msgspec.UNSET else None
        every: Iterable[Any] = of_classes or repeat(msgspec.UNSET)
        rows = zip(self.ids, self.values.tolist(), self.scores, self.classes, every, strict=False)
        for one, features, score, label, scores in rows:
            yield Line(time, one, release.model, release.key, features, score, label, scores)


class Trouble:
    """Something that may fail for long: a line for each kind of error when it begins, one when it is over."""

    def __init__(self, what: str) -> None:
        self._what, self._times, self._first, self._last = what, 0, 0.0, 0.0
        self._told: set[object] = set()

    def fails(self, where: object, why: object) -> None:
        self._last = monotonic()
        if not self._times:
            self._first = self._last
        self._times += 1
        kind = why.errno if isinstance(why, OSError) else type(why)
        if kind not in self._told:
            self._told.add(kind)
            said = why.strerror if isinstance(why, OSError) else why
            logger.error("prediction log: %s failed: %s: %s", self._what, where, said)

    def works(self) -> None:
        if self._times and monotonic() - self._last >= QUIET:
            lasted = self._last - self._first
            logger.warning(
                "prediction log: %s works again: it failed %d times in %.0f s",
                self._what,
                self._times,
                lasted,
            )
            self._times = 0
            self._told.clear()


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
        self._queue, self._encoding = Trouble("keeping up"), Trouble("encoding lines")
        self._writing = Trouble("writing")
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
            self._queue.fails(self._file.path, f"{self._count} lines wait, so more of them are dropped")

    def close(self, seconds: float = 5) -> None:
        """Write what is queued, for `seconds` at most."""
        self._closing.set()
        self._some.set()
        self._thread.join(seconds)
        if self._thread.is_alive():
            told = "prediction log: %s: the server ends after %g s of waiting, and %d lines or more are lost"
            logger.error(told, self._file.path, seconds, self._count)

    def _drain(self) -> None:
        try:
            self._file.look()
        except OSError as error:
            self._writing.fails(self._file.path, error)
        while not self._closing.is_set():
            self._some.wait()
            self._closing.wait(GATHER)
            self._some.clear()
            self._write_waiting()
            self._queue.works()
        self._write_waiting()
        self._file.close()

    def _write_waiting(self) -> None:
        """Append the lines that wait, as much at a time as may stand in a file."""
        pending, count = bytearray(), 0
        for encoded in self._lines():
            if pending and len(pending) + len(encoded) >= AT_ONCE:
                self._append(pending, count)
                pending, count = bytearray(), 0
            pending += encoded + b"\n"
            count += 1
        if pending:
            self._append(pending, count)

    def _lines(self) -> Iterator[bytes]:
        while self._waiting:
            with self._lock:
                scored = self._waiting.popleft()
                self._count -= len(scored.ids)
                self._bytes -= scored.size
            try:
                lines = [ENCODER.encode(line) for line in scored.lines(self._release)]
            except Exception as error:  # noqa: BLE001 - whatever it is, the lines of others are written
                self._dropped(len(scored.ids))
                self._encoding.fails(self._file.path, error)
                continue
            self._encoding.works()
            yield from lines

    def _append(self, content: bytearray, lines: int) -> None:
        """Append lines; on a full disk the oldest file goes for them, and they only where there is none."""
        while True:
            try:
                self._file.append(content)
            except OSError as error:
                self._writing.fails(self._file.path, error)
                went = self._file.make_room() if error.errno in FULL else None
                self._dropped(lines if went is None else went)
                if went is not None:
                    continue
            else:
                self._writing.works()
            return


class _File:
    """A file of whole lines: set aside before it is over BYTES, cut back to its last whole line on an error.

    Many processes share the folder, and keep it in order for each other: what was last written `days` ago is
    removed whenever a file is begun. A file that cannot be read, removed or set aside stops none of this.
    """

    def __init__(self, path: Path, days: float) -> None:
        self.path, self._days, self._descriptor, self._size = path, days, -1, 0
        self._removing, self._closing = Trouble("removing the oldest files"), Trouble("closing a file")
        self._rotating = Trouble("beginning a new file")

    def look(self) -> None:
        """OSError where the folder is not there, and can't be made, or may not be written to."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(self.path.parent, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "the folder may not be written to")

    def append(self, content: bytearray) -> None:
        """Append; OSError when the disk does not take all of it."""
        begun = False
        try:
            if self._size and self._size + len(content) > BYTES:
                self._set_aside()
            if self._descriptor >= 0 and not os.fstat(self._descriptor).st_nlink:
                self.close()  # silent for so long that another process has removed it
            if self._descriptor < 0:
                self._open()
            begun = True
            if (written := os.write(self._descriptor, content)) < len(content):
                raise OSError(errno.ENOSPC, f"the disk took {written} of {len(content)} bytes")  # noqa: TRY301
        except OSError:
            if begun:
                with suppress(OSError):
                    os.ftruncate(self._descriptor, self._size)
            self.close()  # opened again for the next line: the disk may have room then
            raise
        self._size += written

    def make_room(self) -> int | None:
        """Remove the oldest file that can be removed; how many lines went, None where no file could."""
        for _, path in self._others():
            try:
                lines = _lines(path)
                path.unlink()
            except FileNotFoundError:
                return 0  # another process was quicker, and has counted its lines
            except OSError as error:
                self._removing.fails(path, error)
            else:
                return lines
        return None

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor < 0:
            return
        try:
            os.close(descriptor)
        except OSError as error:  # a server of files may find only now that it can't keep what was written
            self._closing.fails(self.path, error)
        else:
            self._closing.works()

    def _open(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._remove_old()
        self._descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._size = os.fstat(self._descriptor).st_size

    def _remove_old(self) -> None:
        failed = False
        for written, path in self._others():
            if written >= time() - self._days * DAY:
                break
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                self._removing.fails(path, error)
                failed = True
        if not failed:
            self._removing.works()

    def _set_aside(self) -> None:
        """x.jsonl becomes x.<Unix time, ns>.jsonl, which nobody writes to again; *.jsonl are all of them."""
        try:
            self.path.rename(self.path.with_suffix(f".{time_ns()}.jsonl"))
        except FileNotFoundError:
            pass
        except OSError as error:  # then this file grows
            self._rotating.fails(self.path, error)
            return
        self._rotating.works()
        self.close()
        self._size = 0

    def _others(self) -> list[tuple[float, Path]]:
        """The other files of the log, by when they were last written, Unix time."""
        found, folder = [], self.path.parent
        try:
            paths = [path for path in folder.iterdir() if path.suffix in SUFFIXES and path != self.path]
        except OSError as error:
            self._removing.fails(folder, error)
            return []
        for path in paths:
            try:
                status = path.stat()
            except FileNotFoundError:
                continue
            except OSError as error:
                self._removing.fails(path, error)
                continue
            if S_ISREG(status.st_mode):
                found.append((status.st_mtime, path))
        return sorted(found)


def _lines(path: Path) -> int:
    """How many lines a file of the log has: a converted one has it in its name, as .<lines>.parquet."""
    if path.suffix == ".parquet":
        said = path.name.split(".")[-2]
        return int(said) if said.isdigit() else 0
    with path.open("rb") as file:
        return sum(part.count(b"\n") for part in iter(partial(file.read, AT_ONCE), b""))
