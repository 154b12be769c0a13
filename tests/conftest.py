"""Fixtures that every room shares."""

import os
import subprocess
from pathlib import Path

import pytest

from loop.core import paths

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def repository() -> Path:
    """This repository's root. Tests read it and never write to it."""
    return REPOSITORY


@pytest.fixture(autouse=True)
def no_workflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tested is no step of the workflow that runs the tests: it tells that one nothing."""
    for name in [name for name in os.environ if name.startswith(("GITHUB_", "LOOP_GITHUB_", "MLFLOW_"))]:
        monkeypatch.delenv(name)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A LOOP_CACHE of the test's own, with the machine's environments and programs linked in."""
    real = paths.cache()
    own = tmp_path / "cache"
    own.mkdir()
    for built in (real / "envs", real / "programs", *real.glob("uv-*")):
        (own / built.name).symlink_to(built)
    monkeypatch.setenv("LOOP_CACHE", str(own))
    return own


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    """A bare Git remote whose main has one commit, cloned beside it at `clone`."""
    bare, clone = tmp_path / "origin.git", tmp_path / "clone"
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.test"]
    subprocess.run([*git, "init", "-q", "--bare", "-b", "main", bare], check=True)
    subprocess.run([*git, "clone", "-q", bare, clone], check=True, capture_output=True)
    subprocess.run([*git, "-C", clone, "commit", "-q", "--allow-empty", "-m", "begin"], check=True)
    subprocess.run([*git, "-C", clone, "push", "-q", "origin", "HEAD:main"], check=True)
    return bare
