"""Lists which files of a data store a training reads, so that files that arrive later do not change it.

A store is append-only, but a row or a label report may arrive long after its time. So `./loop retrain` and
`./loop pin` write the names and sizes of the files to data/<package>/logged.json, which Git tracks, and the
list's SHA-256 to params.yaml, which DVC tracks.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from loop.core import remote
from loop.core.errors import LoopError
from loop.core.files import read_json, sha256, write_json
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
    """Write logged.json if it has another store or time, or if `anew` is set, and return its SHA-256."""
    path = project.logged
    if anew or not _kept(path, store, until):
        found = {part: _listed(store, part, project.root)[2] for part in PARTS}
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
        fix = f"restore it from the commit that wrote it, or list the store again: {fix}"
        raise LoopError(f"{path}: does not exist; {where}.sha256 is {logged.sha256}", fix=fix)
    if (found := sha256(path)) != logged.sha256:
        fix = f"git checkout {path.relative_to(project.root)}, or list the store again: {fix}"
        raise LoopError(f"{path}: SHA-256 is {found}, expected {logged.sha256} as in {where}.sha256", fix=fix)
    if not (listing := _kept(path, logged.store, logged.until)):
        raise LoopError(f"{path}: lists another store or time than {where}", fix=fix)
    return listing


def files(listing: Listing, part: str, root: Path) -> Iterator[File]:
    """Yield the listed files of one part, by name. Raises LoopError if a file is missing or has changed."""
    system, folder, found = _listed(listing.store, part, root)
    for below, size in sorted(getattr(listing, part).items()):
        name = f"{place(listing.store, part, root)}/{below}"
        if (there := found.get(below)) != size:
            said = "is missing" if there is None else f"has {there:,} bytes"
            fix = "restore it, because a store is append-only, or list the store again: ./loop pin MODEL"
            raise LoopError(f"{name}: {said}, expected {size:,} bytes as listed for the training", fix=fix)
        yield File(name, f"{folder}/{below}", below, system)


def place(store: str, part: str, root: Path) -> str:
    """Return the location of a part of a store; a relative path starts at `root`."""
    base = store if "://" in store else str(root / store)
    return f"{base.rstrip('/')}/{part}"


def _kept(path: Path, store: str, until: datetime) -> Listing | None:
    """Return the list in a file; None if it is not a list of this store at this time."""
    try:
        kept = Listing(**read_json(path))
    except (OSError, ValueError, TypeError):
        return None
    return kept if (kept.store, kept.until) == (store, until.isoformat()) else None


def _listed(store: str, part: str, root: Path) -> tuple[Any, str, Sizes]:
    """Return a part's file system and folder, and the size of each Parquet file that is complete there."""
    with remote.reaching(base := place(store, part, root)):
        system, folder = remote.filesystem(base)
        folder = folder.rstrip("/")
        system.invalidate_cache()
        found = system.find(folder, detail=True) if system.exists(folder) else {}
    below = {name[len(folder) :].lstrip("/"): int(info["size"]) for name, info in found.items()}
    data = {name: size for name, size in below.items() if name.endswith(".parquet") and remote.is_data(name)}
    return system, folder, data
