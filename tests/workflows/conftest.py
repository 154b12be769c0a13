"""A stand-in with act: each worker has its own server, and each test an empty repository."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from standin import StandIn, repositories


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Iterator[StandIn]]:
    with repositories(
        tmp_path_factory.mktemp("github"), 40, "--var", "COLOUR=blue", "--secret", "KEY=k3y"
    ) as each:
        yield each


@pytest.fixture
def standin(empty: Iterator[StandIn]) -> StandIn:
    """Return an empty repository for one test, whose workflows run under act."""
    return next(empty)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "clone"
