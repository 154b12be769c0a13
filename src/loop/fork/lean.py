"""A lean fork: the team's files and a thin layer of the template's; the engine comes as two locked wheels."""

import re
import shutil
from hashlib import sha256
from pathlib import Path

import httpx

from loop.core import edited
from loop.core.errors import LoopError
from loop.core.files import write_text
from loop.core.git import Git
from loop.fork.template import owned
from loop.version import VERSION

OWN = Path(__file__).with_name("lean")  # the layer's files that differ from those of a fork with the source
DROPPED = (".github/workflows/e2e.yml", ".github/workflows/wheels.yml")  # they test and publish the engine
DISTRIBUTIONS = ("loop", "loop_demo")
LOCKS = {
    "requirements.lock": DISTRIBUTIONS,
    "requirements-gpu.lock": DISTRIBUTIONS,
    "tools/commit.lock": ("loop",),
}
PINNED = re.compile(r"^loop(?:-demo)? @ .*(?:\\\n +--hash=.*)*\n", re.MULTILINE)
REQUIREMENTS = """\
# Your own packages, one a line; `make lock` resolves them beside the engine's into requirements.lock.
# `loop upgrade` moves the next two lines.
{wheels}
"""


def convert(root: Path, place: str) -> list[str]:
    """Make a clone a lean fork whose wheels lie at `place`, a folder or URL; returns the paths that changed.

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
    pins = {name: pinned(place, name) for name in DISTRIBUTIONS}
    written = {file.name: file.read_text(encoding="utf-8") for file in OWN.iterdir()}
    wheels = (pins[name].partition(" \\")[0].replace("loop @", "loop[test] @") for name in DISTRIBUTIONS)
    written["requirements.in"] = REQUIREMENTS.format(wheels="\n".join(wheels))
    for lock, names in LOCKS.items():
        rest = PINNED.sub("", edited.read(root / lock, lock, "take it from the template"))
        written[lock] = rest + "".join(pins[name] for name in names)
    # Only now: this code may be among the files that go.
    for path, text in written.items():
        write_text(root / path, text)
    for path in gone:
        (root / path).unlink()
    for folder in ("src", "tests", "docs", "tools"):
        _prune(root / folder)
    return [*written, *gone]


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


def pinned(place: str, name: str) -> str:
    """The lines of a lock that pin a wheel of this version by URL and hash; LoopError where it is missing."""
    file = f"{name}-{VERSION}-py3-none-any.whl"
    if "://" in place:
        url = f"{place.rstrip('/')}/{file}"
        answer = httpx.get(url, follow_redirects=True, timeout=60)
        if not answer.is_success:
            raise LoopError(f"{url}: {answer.status_code}", fix="name the folder of a release's wheels")
        content = answer.content
    else:
        path = Path(place).resolve() / file
        if not path.is_file():
            raise LoopError(f"{path} is not there", fix="`tools/wheels` of the template builds it")
        url, content = path.as_uri(), path.read_bytes()
    return f"{name.replace('_', '-')} @ {url} \\\n    --hash=sha256:{sha256(content).hexdigest()}\n"
