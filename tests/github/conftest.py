"""Stand-ins without act: runs stay queued, so tests can count the runs that an event starts."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from standin import StandIn, repositories


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Iterator[StandIn]]:
    with repositories(tmp_path_factory.mktemp("github"), 64, "--at-once", "0", "--act", "false") as each:
        yield each


@pytest.fixture
def standin(empty: Iterator[StandIn]) -> StandIn:
    """Return an empty repository for one test."""
    return next(empty)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "clone"
