"""Which of a store's files a training reads: those listed when it was asked for, whatever comes later.

A store is append-only, but a row or a report may reach it long after its time. So `./loop retrain` and
`./loop pin` write the names and sizes of its files to data/<package>/logged.json, which is in Git, and the
list's SHA-256 into params.yaml, where DVC sees it.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from loop.core import remote
from loop.core.errors import LoopError
from loop.core.files import sha256, write_json
from loop.core.names import package
from loop.core.params import Logged
from loop.core.paths import ModelPaths
from loop.pipeline.files import File

PARTS = ("transactions", "labels")
Sizes = dict[str, int]  # bytes of each file, by its path below its part of the store


@dataclass(frozen=True)
class Listing:
    """The files that a store held when it was listed, for what was known at `until`."""

    store: str
    until: str
    transactions: Sizes
    labels: Sizes


def pin(root: Path, model: str, store: str, until: datetime, *, anew: bool) -> str:
    """Write logged.json, and return its SHA-256. Unless `anew`, one of this store and instant is kept."""
    path = ModelPaths(root, model).logged
    if anew or not _is_of(path, store, until):
        found = {part: _listed(store, part, root) for part in PARTS}
        if not found["transactions"]:
            raise LoopError(
                f"{place(store, 'transactions', root)}: holds no *.parquet",
                fix=f"check ingest.logged.store, or monitor.store, of {package(model)} in params.yaml",
            )
        write_json(path, asdict(Listing(store, until.isoformat(), **found)))
    return sha256(path)


def pinned(root: Path, model: str, logged: Logged) -> Listing:
    """The list that params.yaml means; LoopError where there is none, or another one."""
    path, name = ModelPaths(root, model).logged, package(model)
    where, fix = f"params.yaml: models.{name}.ingest.logged", f"./loop pin {name}"
    if not logged.sha256:
        raise LoopError(f"{where} has no sha256: nothing says which of the store's files are meant", fix=fix)
    if not path.is_file():
        raise LoopError(
            f"{path}: no such file; {where}.sha256 is {logged.sha256}",
            fix=f"take it from the commit that wrote it, or list the store as it is now: {fix}",
        )
    if (found := sha256(path)) != logged.sha256:
        raise LoopError(
            f"{path}: found SHA-256 {found}, {where}.sha256 is {logged.sha256}",
            fix=f"git checkout {path.relative_to(root)}, or list the store as it is now: {fix}",
        )
    if not _is_of(path, logged.store, logged.until):
        raise LoopError(f"{path}: lists another store, or for another instant, than {where}", fix=fix)
    return Listing(**json.loads(path.read_text(encoding="utf-8")))


def files(listing: Listing, part: str, root: Path) -> Iterator[File]:
    """The listed files of a part, by name; LoopError where one is gone or was written again."""
    base, system, folder = _opened(listing.store, part, root)
    found = _sizes(system, folder, base)
    for below, size in sorted(getattr(listing, part).items()):
        name = f"{base}/{below}"
        if (there := found.get(below)) != size:
            said = "is gone" if there is None else f"has {there:,} bytes"
            raise LoopError(
                f"{name}: {said}; the training read it with {size:,} bytes",
                fix="put it back: a store is append-only. Or train on what is there now: ./loop pin MODEL",
            )
        yield File(name, f"{folder}/{below}", below, system)


def place(store: str, part: str, root: Path) -> str:
    """Where a part of a store is; a relative path starts at `root`."""
    base = store if "://" in store else str(root / store)
    return f"{base.rstrip('/')}/{part}"


def _is_of(path: Path, store: str, until: datetime) -> bool:
    """Whether a list was made of this store and instant; a file that is no list was not."""
    try:
        kept = Listing(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return False
    return (kept.store, kept.until) == (store, until.isoformat())


def _listed(store: str, part: str, root: Path) -> Sizes:
    base, system, folder = _opened(store, part, root)
    return _sizes(system, folder, base)


def _opened(store: str, part: str, root: Path) -> tuple[str, Any, str]:
    base = place(store, part, root)
    with remote.reaching(base):
        system, folder = remote.filesystem(base)
    return base, system, folder.rstrip("/")


def _sizes(system: Any, folder: str, base: str) -> Sizes:
    """Each Parquet file below a folder; what a writer has not finished has a name that says so."""
    with remote.reaching(base):
        system.invalidate_cache()
        found = system.find(folder, detail=True) if system.exists(folder) else {}
    below = {name[len(folder) :].lstrip("/"): int(info["size"]) for name, info in found.items()}
    return {name: size for name, size in below.items() if name.endswith(".parquet") and remote.is_data(name)}
