"""The stand-in without act: runs are queued and never start, so what an event starts can be counted."""

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
    """An empty repository of its own."""
    return next(empty)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "clone"
