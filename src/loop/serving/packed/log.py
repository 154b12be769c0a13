"""The prediction log: JSON lines, one file a process, rotated; it never holds an answer up.

An answer only puts a line into a bounded queue. A thread writes. A full queue or a full disk costs
lines, which are counted, and nothing else.
"""

import logging
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from queue import Full, Queue
from threading import Thread

import msgspec

LINES = 10_000  # in the queue: some seconds of traffic, a few MB
BYTES = 64 * 1024 * 1024  # a file, before the next is begun
FILES = 16  # kept beside it


class Line(msgspec.Struct, frozen=True):
    """One prediction, as the monitor reads it."""

    time: str
    id: int | str | None
    model: str
    version: str
    features: list[float]
    score: float | list[float]
    class_: int = msgspec.field(name="class")


class PredictionLog:
    """Appends to `folder`/<host>-<pid>.jsonl until it is closed; `dropped` is called for each lost line."""

    def __init__(self, folder: Path, dropped: Callable[[], None], lines: int = LINES) -> None:
        self._queue: Queue[Line | None] = Queue(lines)
        self._dropped = dropped
        self._file = _File(folder / f"{socket.gethostname()}-{os.getpid()}.jsonl", dropped)
        self._thread = Thread(target=self._drain, name="prediction-log", daemon=True)
        self._thread.start()

    def write(self, line: Line) -> None:
        """Queue a line, or count it as dropped; never waits."""
        try:
            self._queue.put_nowait(line)
        except Full:
            self._dropped()

    def close(self, seconds: float = 5) -> None:
        """Write what is queued, for `seconds` at most."""
        with suppress(Full):
            self._queue.put(None, timeout=seconds)
            self._thread.join(seconds)

    def _drain(self) -> None:
        while (line := self._queue.get()) is not None:
            self._file.emit(logging.makeLogRecord({"msg": line}))
        self._file.close()


class _File(RotatingFileHandler):
    """logging's rotating file, with our lines in it and our counter for what it can't write."""

    def __init__(self, path: Path, dropped: Callable[[], None]) -> None:
        super().__init__(path, maxBytes=BYTES, backupCount=FILES, encoding="utf-8", delay=True)
        self._path, self._dropped = path, dropped

    def _open(self) -> TextIOWrapper:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        return super()._open()

    def format(self, record: logging.LogRecord) -> str:
        return msgspec.json.encode(record.msg).decode()

    def rotation_filename(self, default_name: str) -> str:
        """`name.jsonl.1` becomes `name.1.jsonl`, so that *.jsonl are all of them."""
        path, number = default_name.rsplit(".", 1)
        return f"{path.removesuffix('.jsonl')}.{number}.jsonl"

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        self._dropped()
        stream, self.stream = self.stream, None  # opened again for the next line: the disk may have room then
        if stream is not None:
            with suppress(OSError):
                stream.close()
