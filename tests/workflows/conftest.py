"""The stand-in with act: one server of this worker's own, and an empty repository for each test."""

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
    """An empty repository of its own; what is pushed there runs under act."""
    return next(empty)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "clone"
