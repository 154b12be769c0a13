"""Stores the stand-in's data that is not in Git, such as pull requests and runs, in one JSON file."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from loop.core.files import read_json, write_json

Record = dict[str, Any]  # a pull request, comment, status, run or entry of a merge queue


def now() -> str:
    """Return the current time in GitHub's format."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class State:
    """The stand-in's data: one JSON file, which threads read and change only while they hold its lock."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.lock = threading.RLock()
        empty = {"next_id": 1, "settings": {}}
        lists: dict[str, Any] = {kind: [] for kind in ("pulls", "comments", "statuses", "runs", "queue")}
        kept = read_json(path) if path.exists() else {}
        self._data: dict[str, Any] = {**empty, **lists, **kept}

    def of(self, kind: str, **fields: Any) -> list[Record]:
        """Return the records of a kind (such as "pulls") whose fields have the given values, oldest first."""
        with self.lock:
            return [r for r in self._data[kind] if all(r[key] == value for key, value in fields.items())]

    def settings(self, repository: str) -> dict[str, Any]:
        """Return what a person has set for a repository (settings.py describes the keys)."""
        with self.lock:
            return dict(self._data["settings"].get(repository, {}))

    @contextmanager
    def change(self) -> Iterator[dict[str, Any]]:
        """Yield the data for changing, and write it to disk when the block ends."""
        with self.lock:
            yield self._data
            write_json(self._path, self._data)

    def add(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Append a record to a list such as "pulls", with a new id and its times, and return it."""
        with self.change() as data:
            record = {"id": data["next_id"], **fields, "created_at": now(), "updated_at": now()}
            data["next_id"] += 1
            data[kind].append(record)
            return record

    def update(self, record: dict[str, Any], **fields: Any) -> None:
        """Change the fields of a record that came from `add` or `of`."""
        with self.change():
            record.update(fields, updated_at=now())
