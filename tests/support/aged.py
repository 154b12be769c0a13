"""The template at an earlier version and at today's: as a repository of two commits, and as two wheels."""

import lzma
import subprocess
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

EARLIER = Path(__file__).parents[1] / "fork" / "earlier.tar.xz"
NAMED = ("-c", "user.name=t", "-c", "user.email=t@example.test")


def git(root: Path, *args: str) -> str:
    """Run git in a repository and return its output."""
    return subprocess.run(["git", *NAMED, *args], cwd=root, check=True, capture_output=True, text=True).stdout


def committed(root: Path, message: str) -> str:
    """Commit everything in a folder, which becomes a repository if necessary, and return the commit."""
    if not (root / ".git").exists():
        git(root, "init", "-q", "-b", "main")
        git(root, "config", "user.name", "t")
        git(root, "config", "user.email", "t@example.test")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", message)
    return git(root, "rev-parse", "HEAD").strip()


def wheel(folder: Path, files: dict[str, Path], version: str) -> Path:
    """Write a wheel with a template's files, laid out as in a release."""
    path = folder / f"loop-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, file in files.items():
            inside = name.startswith("src/loop/")
            archive.write(file, name.removeprefix("src/") if inside else f"loop/template/{name}")
    return path


def tracked(root: Path) -> dict[str, Path]:
    """Return a repository's files on disk, including new ones, without those that Git ignores."""
    listed = git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")[:-1]
    return {name: root / name for name in listed if (root / name).is_file()}


@dataclass(frozen=True)
class Upstream:
    """The template's repository, its earlier commit, and today's wheel; the earlier wheel is beside it."""

    root: Path
    earlier: str
    wheel: Path


@pytest.fixture(scope="session")
def upstream(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Upstream:
    root, wheels = tmp_path_factory.mktemp("upstream"), tmp_path_factory.mktemp("wheels")
    with lzma.open(EARLIER) as file, tarfile.open(fileobj=file) as archive:
        archive.extractall(root, filter="data")
    earlier = committed(root, "earlier")
    wheel(wheels, tracked(root), "0.1.0")
    now = wheel(wheels, tracked(repository), "0.2.0")
    for path in tracked(root):
        (root / path).unlink()
    for path, file in tracked(repository).items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(file.read_bytes())
        (root / path).chmod(file.stat().st_mode)
    committed(root, "now")
    return Upstream(root, earlier, now)
