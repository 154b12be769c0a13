"""Everything that is not Git: pull requests, comments, statuses and runs, in one JSON file."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


def write(path: Path, value: Any) -> None:
    """Write JSON whole or not at all."""
    aside = path.with_name(f".{path.name}.new")
    aside.write_text(json.dumps(value, indent=1))
    aside.replace(path)


def now() -> str:
    """The time as GitHub writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class State:
    """One file and one lock; whoever holds the lock sees it and changes it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.RLock()
        empty = {
            "next_id": 1,
            "pulls": [],
            "comments": [],
            "statuses": [],
            "runs": [],
            "queue": [],
            "settings": {},
        }
        kept = json.loads(path.read_text()) if path.exists() else {}
        self._data: dict[str, Any] = {**empty, **kept}

    @contextmanager
    def look(self) -> Iterator[dict[str, Any]]:
        """Read, with nobody changing it meanwhile."""
        with self._lock:
            yield self._data

    @contextmanager
    def change(self) -> Iterator[dict[str, Any]]:
        """Change it; what was changed is on disk when the block ends."""
        with self._lock:
            yield self._data
            write(self._path, self._data)

    def add(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Append one record with an id and its times."""
        with self.change() as data:
            record = {"id": data["next_id"], **fields, "created_at": now(), "updated_at": now()}
            data["next_id"] += 1
            data[kind].append(record)
            return record

    def update(self, record: dict[str, Any], **fields: Any) -> None:
        """Change a record that `add` or `look` gave."""
        with self.change():
            record.update(fields, updated_at=now())
