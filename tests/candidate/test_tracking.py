"""`register` works with teams' MLflow servers, and its errors name the cause and the fix."""

import base64
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from front import Front
from s3 import s3  # noqa: F401 - a fixture
from standin import client, looks
from tenacity import wait_none
from trained import MODEL

from loop.candidate import tracking
from loop.candidate.register import register
from loop.core import models
from loop.core.dvc import Lock
from loop.core.files import read_json
from loop.core.project import Project
from loop.packaging.process import free_port

pytestmark = pytest.mark.slow
LOGIN = ("team", "s3cret")
TYPED = ":".join(LOGIN)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let retries follow at once, and reset MLflow's client after each test."""
    import mlflow

    monkeypatch.setattr(tracking, "wait_exponential", wait_none)
    yield
    mlflow.set_tracking_uri(None)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start an MLflow server that stores artifacts itself, and yield its URL."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(tracking._empty(), folder / "db")  # otherwise the server would take seconds to create it
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    stores = (f"--backend-store-uri=sqlite:///{folder}/db", f"--artifacts-destination={folder}/artifacts")
    command = (sys.executable, "-m", "mlflow", "server", f"--port={port}", "--workers=1", *stores)
    # The server's eight processes for jobs take 27 s of CPU to start, and no test needs them.
    env = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(command, stdout=log, stderr=log, env=env) as process,
    ):
        try:
            for _ in looks(300):
                try:
                    client().get(f"{url}/health")
                    break
                except httpx.TransportError:
                    assert process.poll() is None, (folder / "log").read_text()
            yield url
        finally:
            process.terminate()


class Proxied(Front):
    """A proxy that serves MLflow below /mlflow to clients with the password, and can be made to fail."""

    answers: tuple[int, ...] = ()  # statuses of the answers to the next requests

    def own(self, request: BaseHTTPRequestHandler) -> tuple[int, str] | None:
        if self.answers:
            status, *rest = self.answers
            self.answers = tuple(rest)
            return status, ""
        expected = "Basic " + base64.b64encode(TYPED.encode()).decode()
        known = request.headers["Authorization"] == expected and request.path.startswith("/mlflow/")
        return None if known else (401, "")

    def path(self, asked: str) -> str:
        return asked.removeprefix("/mlflow")


@pytest.fixture
def front(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxied]:
    """Start the proxy in front of the server, and set MLFLOW_TRACKING_URI, user and password for it."""
    with Proxied(server) as proxy:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{proxy.url}/mlflow")
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", LOGIN[0])
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", LOGIN[1])
        yield proxy


def scores_as_trained(root: Path, uri: str) -> None:
    import mlflow

    mlflow.set_tracking_uri(uri)
    folder = root / "data/card_fraud/model"
    example = np.array([read_json(folder / "meta.json")["example"]])
    expected = models.load(root, MODEL).scorer.load(folder)(example)
    loaded = mlflow.pyfunc.load_model(f"models:/{MODEL}@challenger")
    np.testing.assert_allclose(loaded.predict(example), expected, rtol=1e-6)


def test_a_server_behind_a_proxy_with_a_password(
    trained: Path, front: Proxied, server: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """The error names a wrong password, a 503 is retried, and the registered model loads and scores."""
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong")
        with pytest.raises(tracking.TrackingError, match="401") as caught:
            register(Project(trained, MODEL))
    assert "MLFLOW_TRACKING_PASSWORD" in caught.value.fix
    assert "wrong" not in str(caught.value)
    front.answers = (503, 502)
    entered = register(Project(trained, MODEL))
    assert "trying again in" in capsys.readouterr().err
    assert entered.version == 1
    assert register(Project(trained, MODEL)) == entered
    scores_as_trained(trained, server)


@pytest.mark.parametrize(
    ("uri", "said", "fix"),
    [
        (f"http://{TYPED}@127.0.0.1:9/mlflow", "Connection refused", "MLFLOW_TRACKING_URI"),
        (f"ftp://{TYPED}@127.0.0.1", "unsupported URI", "ftp://***@127.0.0.1"),
        ("sqlite:////dev/null/db", "File exists", "sqlite:////dev/null/db can be read"),
    ],
)
def test_an_error_names_server_cause_and_fix(
    trained: Path, monkeypatch: pytest.MonkeyPatch, uri: str, said: str, fix: str
) -> None:
    """The error contains the server, the cause and the fix, and never the password."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(tracking.TrackingError, match=said) as caught:
        register(Project(trained, MODEL))
    assert fix in caught.value.fix
    assert LOGIN[1] not in str(caught.value)


def test_artifacts_in_a_bucket_that_cannot_be_written(
    trained: Path,
    s3: Any,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The error names the missing bucket; once it exists, the next call succeeds and leaves one run."""
    import mlflow

    uri = f"sqlite:///{shutil.copy(tracking._empty(), trained / 'other.db')}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    client = mlflow.MlflowClient(uri)
    experiment = client.create_experiment("card-fraud", "s3://models/mlflow")
    with pytest.raises(tracking.TrackingError, match=r"s3://models/mlflow.*NoSuchBucket"):
        register(Project(trained, MODEL))
    s3.mkdir("models")
    entered = register(Project(trained, MODEL))
    assert [run.info.run_id for run in client.search_runs([experiment])] == [entered.run_id]
    scores_as_trained(trained, uri)


def test_two_at_once_make_one_version(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two concurrent `register`, the second deletes its own version, but no run that may be alive."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    # A person's own registry does not know this clone's runs, so no version may go there.
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", f"sqlite:///{trained.parent}/registry.db")
    ask, others = tracking.Tracking.ask, []
    server = tracking.Tracking.connect(trained)
    experiment = server.ask("create_experiment", "card-fraud", server.artifacts)
    tags = {"model_md5": Lock.of(trained).model_md5(MODEL)}
    alive = server.ask("create_run", experiment, tags=tags).info.run_id
    dead = server.ask("create_run", experiment, start_time=1, tags=tags).info.run_id

    def overtaken(self: tracking.Tracking, method: str, *args: Any, **kwargs: Any) -> Any:
        if method == "create_model_version" and not others:
            others.append(None)
            others.append(register(Project(trained, MODEL)))
        return ask(self, method, *args, **kwargs)

    monkeypatch.setattr(tracking.Tracking, "ask", overtaken)
    entered = register(Project(trained, MODEL))
    assert entered == others[1]
    assert len(server.ask("search_model_versions", f"name = '{MODEL}'")) == 1
    runs = {run.info.run_id: run.info.status for run in server.ask("search_runs", [experiment])}
    assert runs == {entered.run_id: "FINISHED", alive: "RUNNING"}
    assert dead not in runs
    assert not (trained.parent / "registry.db").exists()


def test_one_empty_database_is_made_for_all_clones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second clone copies the prepared empty database, and stores its artifacts in its own folder."""
    from mlflow.store.db import utils

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("LOOP_CACHE", str(tmp_path / "cache"))
    for name in ("first", "second"):
        clone = tmp_path / name
        clone.mkdir()
        (own,) = tracking.Tracking.connect(clone).ask("search_experiments")
        assert own.artifact_location == (clone / "mlartifacts").as_uri()
        monkeypatch.setattr(utils, "_upgrade_db", None)  # creates the tables; must not run again


def test_the_clones_own_database_is_migrated_and_moves_with_it(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database of an older MLflow is migrated, and still works after the clone has been renamed."""
    from alembic import command
    from alembic.script import ScriptDirectory
    from mlflow.store.db.utils import _get_alembic_config
    from mlflow.store.tracking.dbmodels.initial_models import Base
    from sqlalchemy import create_engine

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    uri = f"sqlite:///{trained}/mlflow.db"
    Base.metadata.create_all(create_engine(uri))
    config = _get_alembic_config(uri)
    _, _, older, *_ = ScriptDirectory.from_config(config).walk_revisions()
    command.upgrade(config, older.revision)
    entered = register(Project(trained, MODEL))
    moved = trained.rename(trained.with_name("renamed"))
    assert register(Project(moved, MODEL)) == entered
    scores_as_trained(moved, f"sqlite:///{moved}/mlflow.db")
