"""Converts a fork to a lean fork and back.

A lean fork has the team's files and a few of the template's files. The engine is installed from two wheels
that the locks pin.
"""

import re
import shutil
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx

from loop.core import edited
from loop.core.errors import LoopError
from loop.core.files import whole, write_text
from loop.core.git import Git
from loop.core.paths import LIBRARY
from loop.fork.template import installed, owned
from loop.version import VERSION

ENGINE = "src/loop/"
# The folder of files that a lean fork has in place of the template's files of the same names.
WITHIN = "src/loop/fork/lean/"
OWN = LIBRARY / "fork" / "lean"
# Workflows that test the engine and publish it and its documentation; a lean fork does not have them.
DROPPED = (".github/workflows/docs.yml", ".github/workflows/e2e.yml", ".github/workflows/wheels.yml")
DISTRIBUTIONS = ("loop", "loop_demo")
LOCK, WANTED = "requirements.lock", "requirements.in"
LOCKS = {  # each lock file, and the wheels that it pins
    LOCK: DISTRIBUTIONS,
    "requirements-gpu.lock": DISTRIBUTIONS,
    "tools/commit.lock": ("loop",),
}
PINNED = re.compile(r"^loop(?:-demo)? @ .*\n(?: +--hash=.*\n)*", re.MULTILINE)
REQUIREMENTS = """\
# Your own packages, one per line. `make lock` locks them and the engine's packages in requirements.lock.
# `loop upgrade` changes the next two lines.
loop[test] @ {loop}
loop-demo @ {loop_demo}
"""


def convert(root: Path, place: str) -> None:
    """Convert a clone to a lean fork that pins the wheels at `place`, a folder or URL.

    In a fork that is lean already, the locks pin the wheels of this version afterwards. Raises LoopError if a
    wheel is missing, or if a file to be deleted has uncommitted changes.
    """
    git = Git(root)
    tracked = git.run("ls-files", "-z").split("\0")
    gone = [path for path in tracked if _source(path) and (root / path).is_file()]
    if gone and (edits := git.run("diff", "--name-only", "HEAD", "--", *gone).splitlines()):
        fix = "git commit or git stash it"
        raise LoopError(f"{', '.join(edits)}: has uncommitted changes, but would be deleted", fix=fix)
    wheels = {name: pinned(place, name) for name in DISTRIBUTIONS}
    written = {path.name: path.read_text(encoding="utf-8") for path in OWN.iterdir()}
    written[WANTED] = REQUIREMENTS.format(loop=url(wheels["loop"]), loop_demo=url(wheels["loop_demo"]))
    written |= {lock: repinned(lock, _read(root, lock), wheels) for lock in LOCKS}
    # Files are deleted last, because they may include the code that runs here.
    for path, text in written.items():
        write_text(root / path, text)
    for top in ("src", "tests", "docs", "tools"):
        for compiled in [*(root / top).rglob("__pycache__")]:  # with it, Git would keep the folder
            shutil.rmtree(compiled)
    if gone:
        git.run("rm", "--quiet", "--", *gone)


def vendor(root: Path) -> None:
    """Copy the installed engine's source into a lean fork. Raises LoopError if it has the source already."""
    if not found(_read(root, LOCK)):
        raise LoopError(f"{LOCK} pins no wheel: the source is here", fix="to update it: ./loop upgrade")
    with whole(root / ENGINE) as engine:  # a part of it would hide the wheel's modules, if this is killed
        for path, file in installed().items():
            if path not in LOCKS and owned(path, vendored=True):
                to = engine / path.removeprefix(ENGINE) if path.startswith(ENGINE) else root / path
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, to)
    for lock in LOCKS:
        write_text(root / lock, PINNED.sub("", _read(root, lock)))


def _read(root: Path, lock: str) -> str:
    return edited.read(root / lock, lock, "restore it from the template")


def _source(path: str) -> bool:
    """Whether the path is a file of the template that a lean fork does not have."""
    return path in DROPPED or (owned(path, vendored=True) and not owned(path, vendored=False))


def layer(files: dict[str, Any]) -> dict[str, Any]:
    """Return the files of a lean fork, selected from all of a version's files of the template."""
    own = {path.removeprefix(WITHIN): entry for path, entry in files.items() if path.startswith(WITHIN)}
    return {path: entry for path, entry in files.items() if not _source(path)} | own


def pins(source: str, version: str) -> dict[str, str]:
    """Return the pins of both wheels; `source` is the path or URL of the engine's wheel.

    Raises LoopError if `source` is not the wheel of this version, or if one of the wheels is missing.
    """
    place, _, file = source.rpartition("/")
    if file != f"loop-{version}-py3-none-any.whl":
        fix = "give the path or URL of a release's wheel"
        raise LoopError(f"{source} is not a wheel, but this fork installs the engine from a wheel", fix=fix)
    return {name: pinned(place or ".", name, version) for name in DISTRIBUTIONS}


def url(lines: str) -> str:
    """Return the wheel's URL from the lines of a lock that pin the wheel."""
    return lines.partition(" \\")[0].partition(" @ ")[2]


def found(lock: str) -> dict[str, str]:
    """Return the pins of the wheels in a lock. The result is empty if the fork has the engine's source."""
    return dict(zip(DISTRIBUTIONS, PINNED.findall(lock), strict=False))


def repinned(path: str, text: str, pins: dict[str, str]) -> str:
    """Return the text of a lock or of requirements.in, with its pins of the wheels replaced by `pins`."""
    if path == WANTED:
        for name, lines in pins.items():
            pin = rf"^({name.replace('_', '-')}(\[.*\])? @ ).*$"
            text = re.sub(pin, rf"\g<1>{url(lines)}", text, flags=re.MULTILINE)
        return text
    return PINNED.sub("", text) + "".join(pins[name] for name in LOCKS[path])


def content(wheel: str) -> bytes:
    """Return the content of a wheel at a path or URL. Raises LoopError if it cannot be read."""
    try:
        if "://" not in wheel:
            return Path(wheel).read_bytes()
        return httpx.get(wheel, follow_redirects=True, timeout=60).raise_for_status().content
    except (OSError, httpx.HTTPError, httpx.InvalidURL) as error:
        fix = "give the path or URL of a release's wheel, or build it by `tools/wheels` in the template"
        raise LoopError(f"{wheel}: {error}", fix=fix) from error


def pinned(place: str, name: str, version: str = VERSION) -> str:
    """Return the lines of a lock that pin the wheel `name` in the folder or URL `place` by URL and hash."""
    wheel = f"{place.rstrip('/')}/{name}-{version}-py3-none-any.whl"
    link = wheel if "://" in wheel else Path(wheel).resolve().as_uri()
    return f"{name.replace('_', '-')} @ {link} \\\n    --hash=sha256:{sha256(content(wheel)).hexdigest()}\n"
