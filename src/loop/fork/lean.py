"""A lean fork: the team's files and a thin layer of the template's; the engine comes as two locked wheels."""

import re
import shutil
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

import httpx

from loop.core import edited
from loop.core.errors import LoopError
from loop.core.files import write_text
from loop.core.git import Git
from loop.core.paths import LIBRARY, SHIPPED
from loop.fork.template import owned
from loop.version import VERSION

WITHIN = "src/loop/fork/lean/"  # the layer's files that differ from those of a fork with the source
OWN = LIBRARY / "fork" / "lean"
E = TypeVar("E")
# They test the engine, and publish it and its documentation.
DROPPED = (".github/workflows/docs.yml", ".github/workflows/e2e.yml", ".github/workflows/wheels.yml")
DISTRIBUTIONS = ("loop", "loop_demo")
LOCK, WANTED = "requirements.lock", "requirements.in"
LOCKS = {  # which wheels each of them pins
    LOCK: DISTRIBUTIONS,
    "requirements-gpu.lock": DISTRIBUTIONS,
    "tools/commit.lock": ("loop",),
}
PINNED = re.compile(r"^loop(?:-demo)? @ .*\n(?: +--hash=.*\n)*", re.MULTILINE)
REQUIREMENTS = """\
# Your own packages, one a line; `make lock` resolves them beside the engine's into requirements.lock.
# `loop upgrade` moves the next two lines.
{wheels}
"""


def convert(root: Path, place: str) -> list[str]:
    """Make a clone a lean fork with the wheels at `place`, a folder or URL; returns the paths that changed.

    A fork that is lean already gets the wheels of this version. LoopError where a wheel is missing, and where
    a file that goes has changes that are not committed.
    """
    git = Git(root)
    tracked = git.run("ls-files", "-z").split("\0")[:-1]
    gone = [path for path in tracked if _source(path) and (root / path).is_file()]
    if edits := git.run("diff", "--name-only", "HEAD", "--", *gone).splitlines():
        raise LoopError(
            f"{', '.join(edits)}: not committed", fix="commit it, or git stash; a lean fork lacks it"
        )
    wheels = {name: pinned(place, name) for name in DISTRIBUTIONS}
    written = {path.name: path.read_text(encoding="utf-8") for path in OWN.iterdir()}
    lines = (each.partition(" \\")[0].replace("loop @", "loop[test] @") for each in wheels.values())
    written[WANTED] = REQUIREMENTS.format(wheels="\n".join(lines))
    for lock in LOCKS:
        text = edited.read(root / lock, lock, "take it from the template")
        written[lock] = repinned(lock, text, wheels)
    # Only now: this code may be among the files that go.
    for path, text in written.items():
        write_text(root / path, text)
    for path in gone:
        (root / path).unlink()
    for folder in ("src", "tests", "docs", "tools"):
        _prune(root / folder)
    return [*written, *gone]


def vendor(root: Path) -> list[str]:
    """Bring the source of the installed version into a lean fork; returns the paths that were written.

    LoopError where the fork has it already.
    """
    if (root / "src" / "loop").is_dir():
        raise LoopError(f"{root}/src/loop is there: this fork has the source", fix="./loop upgrade moves it")
    packages = {"src/loop": LIBRARY, "src/loop_demo": LIBRARY.with_name("loop_demo"), "": SHIPPED}
    files = {
        f"{to}/{path.relative_to(folder).as_posix()}".lstrip("/"): path
        for to, folder in packages.items()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".pyc" and (to == "" or not path.is_relative_to(SHIPPED))
    }
    wanted = {path: file for path, file in files.items() if owned(path, vendored=True) and path not in LOCKS}
    for path, file in wanted.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, root / path)
    for lock in LOCKS:
        write_text(root / lock, PINNED.sub("", edited.read(root / lock, lock, "take it from the template")))
    return [*wanted, *LOCKS]


def _source(path: str) -> bool:
    """Whether a lean fork lacks a file of the template."""
    return path in DROPPED or (owned(path, vendored=True) and not owned(path, vendored=False))


def _prune(folder: Path) -> None:
    """Remove bytecode, and folders that hold nothing else."""
    for below in [path for path in folder.glob("*") if path.is_dir() and not path.is_symlink()]:
        _prune(below)
    if folder.name == "__pycache__":
        shutil.rmtree(folder)
    elif folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def layer(files: dict[str, E]) -> dict[str, E]:
    """The template's files of a lean fork, of all those that a version has."""
    own = {path.removeprefix(WITHIN): entry for path, entry in files.items() if path.startswith(WITHIN)}
    return {path: entry for path, entry in files.items() if not _source(path)} | own


def pins(source: str, version: str) -> dict[str, str]:
    """The pins of both wheels, where `source` is the engine's; LoopError where it is not a wheel."""
    place, _, file = source.rpartition("/")
    if file != f"loop-{version}-py3-none-any.whl":
        raise LoopError(
            f"{source} is not a wheel, and this fork has the engine as one",
            fix="name the wheel of a release, by its path or URL",
        )
    return {name: pinned(place or ".", name, version) for name in DISTRIBUTIONS}


def url(lines: str) -> str:
    """The wheel's URL, of the lines of a lock that pin it."""
    return lines.partition(" \\")[0].partition(" @ ")[2]


def found(lock: str) -> dict[str, str]:
    """The pins that a lock has; none in a fork that has the source."""
    return dict(zip(DISTRIBUTIONS, PINNED.findall(lock), strict=False))


def repinned(path: str, text: str, pins: dict[str, str]) -> str:
    """A lock or requirements.in with these pins in place of those that it has."""
    if path == WANTED:
        for name, lines in pins.items():
            pin = rf"^({name.replace('_', '-')}(\[.*\])? @ ).*$"
            text = re.sub(pin, rf"\g<1>{url(lines)}", text, flags=re.MULTILINE)
        return text
    return PINNED.sub("", text) + "".join(pins[name] for name in LOCKS[path])


def downloaded(url: str) -> bytes:
    """A file of a release; LoopError where it is missing."""
    try:
        answer = httpx.get(url, follow_redirects=True, timeout=60)
    except httpx.HTTPError as error:
        raise LoopError(f"{url}: {error}", fix="check the address and the network") from error
    if not answer.is_success:
        raise LoopError(f"{url}: answers {answer.status_code}", fix="name the place of a release's wheels")
    return answer.content


def pinned(place: str, name: str, version: str = VERSION) -> str:
    """The lines of a lock that pin a version's wheel by URL and hash; LoopError where it is missing."""
    file = f"{name}-{version}-py3-none-any.whl"
    if "://" in place:
        source = f"{place.rstrip('/')}/{file}"
        content = downloaded(source)
    else:
        path = Path(place).resolve() / file
        if not path.is_file():
            raise LoopError(f"{path} is not there", fix="`tools/wheels` of the template builds it")
        source, content = path.as_uri(), path.read_bytes()
    return f"{name.replace('_', '-')} @ {source} \\\n    --hash=sha256:{sha256(content).hexdigest()}\n"
