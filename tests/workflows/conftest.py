"""The stand-in with act: one server of this worker's own, and an empty repository for each test."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from standin import Server, StandIn

NAMES = [f"acme/r{number}" for number in range(20)]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Iterator[str]]]:
    options = [word for name in NAMES for word in ("--repository", name)]
    server = Server(tmp_path_factory.mktemp("github"), *options, "--var", "COLOUR=blue")
    yield server, itertools.chain(NAMES)
    server.stop()


@pytest.fixture
def standin(server: tuple[Server, Iterator[str]]) -> StandIn:
    """An empty repository of its own; what is pushed there runs under act."""
    return StandIn(server[0], next(server[1]))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "clone"
