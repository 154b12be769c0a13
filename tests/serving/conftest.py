"""The app that serves a tiny model."""

import pytest
from starlette.testclient import TestClient
from tiny import write_model
from trained import trained, trained_once  # noqa: F401 - fixtures

from loop.serving.packed import app, booster


@pytest.fixture(scope="session")
def source(tmp_path_factory):
    """The tiny binary model. Read only."""
    return write_model(tmp_path_factory.mktemp("bento") / "src")


@pytest.fixture(scope="session")
def client(source):
    """The app of the tiny model, started; no prediction log."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PREDICTION_LOG_DIR", raising=False)
        with TestClient(app.create(source, booster.load, max_rows=5, max_bytes=2000)) as client:
            yield client
