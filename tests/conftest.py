"""Fixtures that all test folders share."""

import argparse
import functools
import os
import re
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import settings
from trained import once, work_tree

from loop.core import git, paths

REPOSITORY = Path(__file__).resolve().parent.parent
# Waiting threads sleep, as under `./loop`. Set before the import of any library that starts threads.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# Variables of the Git hook or the `make` that runs the tests must not reach the tests' own Git and `make`.
for name in (*git.HOOK, "MAKEFLAGS", "MAKELEVEL", "ARGS", "MARKS", "MODEL", "TESTS"):
    os.environ.pop(name, None)
# Every run has the same examples and no deadline, so that a test fails only because of a change.
# To search for new ones: `pytest --hypothesis-profile=default`.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")
# Each httpx client reads the machine's certificates, which takes 0.04 s of CPU; here they are read once.
# The tests also run with a version of httpx that has no such function.
with suppress(ImportError, AttributeError):
    from httpx._transports import default

    default.create_ssl_context = functools.cache(default.create_ssl_context)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option `--part`: `--part 1/2` and `--part 2/2` split the tests between two machines."""
    parser.addoption("--part", type=_part, help="K/N: the K-th of N parts of the test files")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With `-m a` or `-m "a or b"`, skip files that name no such marker, because imports take longest."""
    markers = config.option.markexpr.split(" or ")
    if not all(map(str.isidentifier, markers)):
        return None
    named = re.compile(rf"\bmark\.({'|'.join(markers)})\b")
    files = collection_path.rglob("test_*.py") if collection_path.is_dir() else [collection_path]
    return None if any(named.search(file.read_text(errors="replace")) for file in files) else True


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Order files by their slowest test, so that no slow file starts last; `--part` deals them out in order.

    A file stays whole, because its tests share fixtures.
    """
    longest: dict[Path, float] = {}
    for item in items:
        longest[item.path] = max(longest.get(item.path, 0), _patience(item))
    items.sort(key=lambda item: longest[item.path], reverse=True)
    if config.option.part:
        part, parts = config.option.part
        files = list(dict.fromkeys(item.path for item in items))[part - 1 :: parts]
        config.hook.pytest_deselected(items=[item for item in items if item.path not in files])
        items[:] = [item for item in items if item.path in files]


def _patience(item: pytest.Item) -> float:
    """Return a test's own timeout in seconds, or else 1 for a slow test and 0 for a quick one."""
    own = item.get_closest_marker("timeout")
    return float(own.args[0]) if own else float(item.get_closest_marker("slow") is not None)


def _part(text: str) -> tuple[int, int]:
    if not (found := re.fullmatch(r"([1-9]\d*)/([1-9]\d*)", text)) or int(found[1]) > int(found[2]):
        raise argparse.ArgumentTypeError(f"{text} is no part: 1/2 is the first of two")
    return int(found[1]), int(found[2])


@pytest.fixture(scope="session")
def repository() -> Path:
    """This repository's root. Tests read it and never write to it."""
    return REPOSITORY


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This repository with the tests' own model in place of a fork's. Tests read it and never write to it."""
    return once(tmp_path_factory, "template", work_tree)


@pytest.fixture(autouse=True)
def no_workflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unset the variables of the workflow that runs the tests, so that tested code does not write to it."""
    for name in [name for name in os.environ if name.startswith(("GITHUB_", "LOOP_GITHUB_", "MLFLOW_"))]:
        monkeypatch.delenv(name)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A LOOP_CACHE for one test, with links to what this machine has already built."""
    real = paths.cache()
    own = tmp_path / "cache"
    own.mkdir()
    (real / "mlflow").mkdir(exist_ok=True)
    for built in (real / "envs", real / "programs", real / "mlflow", *real.glob("uv-*")):
        (own / built.name).symlink_to(built)
    monkeypatch.setenv("LOOP_CACHE", str(own))
    return own


@pytest.fixture(scope="session")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a bare Git remote, whose main has one commit, and of its clone. Read only."""
    folder = tmp_path_factory.mktemp("begun")
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.test"]
    subprocess.run([*git, "init", "-q", "--bare", "-b", "main", folder / "origin.git"], check=True)
    subprocess.run([*git, "clone", "-q", "origin.git", "clone"], cwd=folder, check=True, capture_output=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "begin"], cwd=folder / "clone", check=True)
    subprocess.run([*git, "push", "-q", "origin", "HEAD:main"], cwd=folder / "clone", check=True)
    return folder


@pytest.fixture
def origin(begun: Path, tmp_path: Path) -> Path:
    """A bare Git remote whose main has one commit, cloned beside it at `clone`."""
    subprocess.run(["cp", "-a", begun / "origin.git", begun / "clone", tmp_path], check=True)
    url = ["remote", "set-url", "origin", tmp_path / "origin.git"]
    subprocess.run(["git", *url], cwd=tmp_path / "clone", check=True)
    return tmp_path / "origin.git"
