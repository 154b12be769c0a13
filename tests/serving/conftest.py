"""Fixtures for the app that serves a tiny model, and for fake container engines."""

import pytest
from oci import CRANE
from starlette.testclient import TestClient
from tiny import table, write_model, write_table
from trained import trained, trained_once  # noqa: F401 - fixtures

from loop.packaging import registry
from loop.packaging.engine import ENGINES
from loop.packaging.process import free_port
from loop.runtime import app, booster


@pytest.fixture(scope="session")
def source(tmp_path_factory):
    """The tiny binary model. Read only."""
    return write_model(tmp_path_factory.mktemp("bento") / "src")


@pytest.fixture(scope="session")
def client(source):
    """A client of the tiny model's started app, which writes no prediction log."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PREDICTION_LOG_DIR", raising=False)
        with TestClient(app.create(source, booster.load, max_rows=5, max_bytes=10_000)) as client:
            yield client


@pytest.fixture
def table_source(tmp_path):
    """The tiny model with named columns."""
    return write_table(tmp_path / "table")


@pytest.fixture
def table_client(table_source, tmp_path, monkeypatch):
    """A client of that model's started app, which logs predictions in `tmp_path`/log."""
    monkeypatch.setenv("PREDICTION_LOG_DIR", str(tmp_path / "log"))
    with TestClient(app.create(table_source, table, max_rows=5, max_bytes=10_000)) as client:
        yield client


@pytest.fixture
def engines(tmp_path, monkeypatch):
    """Return a function that makes a fake program, which records its calls. At first every engine fails."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.delenv("LOOP_ENGINE", raising=False)
    monkeypatch.setattr(registry, "program", lambda name: f"{programs}/{name}")

    def make(name, script):
        (programs / name).write_text(f'#!/bin/sh\necho "{name} $*" >> {tmp_path / "calls"}\n{script}\n')
        (programs / name).chmod(0o755)

    (programs / "crane").symlink_to(CRANE)
    for name in ENGINES:
        make(name, "exit 1")
    return make


@pytest.fixture
def alone(tmp_path):
    """The tiny model in a folder of its own, for a test that starts its server."""
    return write_model(tmp_path / "src")


@pytest.fixture
def port():
    """A free port."""
    return free_port()
