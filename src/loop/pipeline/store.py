"""Lists which files of a data store a training reads, so that files that arrive later do not change it.

A store is append-only, but a row or a label report may arrive long after its time. So `./loop retrain` and
`./loop pin` write the names and sizes of the files to data/<package>/logged.json, which Git tracks, and the
list's SHA-256 to params.yaml, which DVC tracks.
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
from loop.core.params import Logged
from loop.core.project import Project
from loop.pipeline.files import File

PARTS = ("transactions", "labels")
Sizes = dict[str, int]  # file size in bytes, by the file's path relative to its part of the store


@dataclass(frozen=True)
class Listing:
    """The files of a store at the time it was listed, for training on data known at `until`."""

    store: str
    until: str
    transactions: Sizes
    labels: Sizes


def pin(project: Project, store: str, until: datetime, *, anew: bool) -> str:
    """Write logged.json and return its SHA-256; a list of this store and time is kept unless `anew`.

    Raises LoopError if the store has no transactions.
    """
    path = project.logged
    if anew or not _is_of(path, store, until):
        found = {part: _listed(store, part, project.root) for part in PARTS}
        if not found["transactions"]:
            raise LoopError(
                f"{place(store, 'transactions', project.root)}: has no *.parquet file, expected some",
                fix=f"check ingest.logged.store or monitor.store of {project.package} in params.yaml",
            )
        write_json(path, asdict(Listing(store, until.isoformat(), **found)))
    return sha256(path)


def pinned(project: Project, logged: Logged) -> Listing:
    """Return the list of store files in logged.json.

    Raises LoopError if the file is missing, if its SHA-256 is not the one that params.yaml pins, or if it
    lists another store or time.
    """
    path, name = project.logged, project.package
    where, fix = f"params.yaml: models.{name}.ingest.logged", f"./loop pin {name}"
    if not logged.sha256:
        raise LoopError(f"{where} has no sha256, so it is unknown which files of the store to read", fix=fix)
    if not path.is_file():
        raise LoopError(
            f"{path}: does not exist; {where}.sha256 is {logged.sha256}",
            fix=f"restore it from the commit that wrote it, or list the store again: {fix}",
        )
    if (found := sha256(path)) != logged.sha256:
        raise LoopError(
            f"{path}: SHA-256 is {found}, expected {logged.sha256} as in {where}.sha256",
            fix=f"git checkout {path.relative_to(project.root)}, or list the store again: {fix}",
        )
    if not _is_of(path, logged.store, logged.until):
        raise LoopError(f"{path}: lists another store or time than {where}", fix=fix)
    return Listing(**json.loads(path.read_text(encoding="utf-8")))


def files(listing: Listing, part: str, root: Path) -> Iterator[File]:
    """Yield the listed files of one part, by name. Raises LoopError if a file is missing or has changed."""
    base, system, folder = _opened(listing.store, part, root)
    found = _sizes(system, folder, base)
    for below, size in sorted(getattr(listing, part).items()):
        name = f"{base}/{below}"
        if (there := found.get(below)) != size:
            said = "is missing" if there is None else f"has {there:,} bytes"
            raise LoopError(
                f"{name}: {said}, expected {size:,} bytes as listed for the training",
                fix="restore it, because a store is append-only, or list the store again: ./loop pin MODEL",
            )
        yield File(name, f"{folder}/{below}", below, system)


def place(store: str, part: str, root: Path) -> str:
    """Return the location of a part of a store; a relative path starts at `root`."""
    base = store if "://" in store else str(root / store)
    return f"{base.rstrip('/')}/{part}"


def _is_of(path: Path, store: str, until: datetime) -> bool:
    """Return whether a file is the list of this store at this time; False if it is not a list."""
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
    """Return the size of each Parquet file below a folder, without files that are still being written."""
    with remote.reaching(base):
        system.invalidate_cache()
        found = system.find(folder, detail=True) if system.exists(folder) else {}
    below = {name[len(folder) :].lstrip("/"): int(info["size"]) for name, info in found.items()}
    return {name: size for name, size in below.items() if name.endswith(".parquet") and remote.is_data(name)}
