"""Fixtures that every room shares."""

import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def repository() -> Path:
    """This repository's root. Tests read it and never write to it."""
    return REPOSITORY


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
