"""Fixtures for the tests of loop.delivery: a clone with params, a lock, and an overlay per environment."""

from collections.abc import Callable
from pathlib import Path

import pytest
from releases import LOCK, MODEL, B, git, save

from loop.core.git import Git
from loop.core.release_state import State, files
from loop.delivery import candidate
from loop.delivery.commit import Place


@pytest.fixture
def clone(origin: Path, template: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(candidate, "release_key", lambda *_, **__: B)  # here, every bento is release B
    at = origin.parent / "clone"
    written = {name: (template / name).read_text() for name in ("params.yaml", "dvc.yaml", ".gitignore")}
    for environment in ("dev", "staging", "production"):
        written |= files(State(), environment, MODEL)
    save(at, {**written, "dvc.lock": LOCK})
    return at


@pytest.fixture
def another(origin: Path) -> Callable[[], Path]:
    """Return a function that clones the same origin again, as on another machine."""

    def made() -> Path:
        at = origin.parent / f"clone-{len(list(origin.parent.iterdir()))}"
        git(origin.parent, "clone", "-q", str(origin), str(at))
        return at

    return made


@pytest.fixture
def here(clone: Path) -> Git:
    return Git(clone)


@pytest.fixture
def production() -> Place:
    return Place(MODEL, "production")
