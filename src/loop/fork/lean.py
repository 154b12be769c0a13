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

    LoopError where something is not committed, since `git restore .` is the way back, and where a wheel is not
    there. A fork that is lean already gets the wheels of this version.
    """
    git = Git(root)
    if git.run("status", "--porcelain"):
        raise LoopError("this clone has changes that are not committed", fix="commit them, or git stash")
    pins = {name: pinned(place, name) for name in DISTRIBUTIONS}
    for path in git.run("ls-files", "-z").split("\0")[:-1]:
        if path in DROPPED or (owned(path, vendored=True) and not owned(path, vendored=False)):
            (root / path).unlink()
    for path in sorted(
        (path for path in root.rglob("*") if path.is_dir() and ".git" not in path.parts), reverse=True
    ):
        if not any(path.iterdir()):
            path.rmdir()
    for path in OWN.iterdir():
        shutil.copyfile(path, root / path.name)
    wheels = "\n".join(
        pins[name].partition(" \\")[0].replace("loop @", "loop[test] @") for name in DISTRIBUTIONS
    )
    write_text(root / "requirements.in", REQUIREMENTS.format(wheels=wheels))
    for lock, names in LOCKS.items():
        text = PINNED.sub("", edited.read(root / lock, lock, "take it from the template"))
        write_text(root / lock, text + "".join(pins[name] for name in names))
    return [line[3:] for line in git.run("status", "--porcelain").splitlines()]


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
