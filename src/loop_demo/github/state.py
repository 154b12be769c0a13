"""Stores the stand-in's data that is not in Git, such as pull requests and runs, in one JSON file."""

import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from loop.core.files import read_json, write_json

Record = dict[str, Any]
KINDS = ("pulls", "comments", "statuses", "runs", "queue", "set")  # of records; "set" are settings


def now() -> str:
    """Return the current time in GitHub's format."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class State:
    """The stand-in's data: one JSON file, which threads read and change only while they hold its lock."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.lock = threading.RLock()
        kept = read_json(path) if path.exists() else {}
        self._data: dict[str, Any] = {"next_id": 1, **{kind: [] for kind in KINDS}, **kept}

    def of(self, kind: str, **fields: Any) -> list[Record]:
        """Return the records of a kind (such as "pulls") whose fields have the given values, oldest first."""
        with self.lock:
            return [r for r in self._data[kind] if all(r[key] == value for key, value in fields.items())]

    def add(self, kind: str, **fields: Any) -> Record:
        """Append a record to a list such as "pulls", with a new id and its times, and return it."""
        with self.lock:
            record = {"id": self._data["next_id"], **fields, "created_at": now()}
            self._data["next_id"] += 1
            self._data[kind].append(record)
            self.update(record)
            return record

    def update(self, record: Record, **fields: Any) -> None:
        """Change the fields of a record that came from `add` or `of`, and write all records to disk."""
        with self.lock:
            record.update(fields, updated_at=now())
            write_json(self._path, self._data)
