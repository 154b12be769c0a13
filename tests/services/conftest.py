"""Fixtures for the tests on servers: a client of MLflow, and a clone that keeps its data in S3."""

import sys
from pathlib import Path
from typing import Any

import mlflow
import pytest
from services import Services, services
from trained import change, commit, run, trained, trained_once

__all__ = ["services", "trained", "trained_once"]


@pytest.fixture
def client(services: Services, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a client of the MLflow server, and set the servers' variables in this process too."""
    for name, value in services.environment.items():
        monkeypatch.setenv(name, value)
    return mlflow.MlflowClient(services.environment["MLFLOW_TRACKING_URI"])


@pytest.fixture
def clone(trained: Path, services: Services, tmp_path: Path) -> Path:
    """Return a trained clone with its own experiment, and its own prefix of the bucket as DVC's remote."""
    remote = ("remote", "add", "--default", "storage", f"s3://dvc/{tmp_path.name}")
    run(sys.executable, "-m", "dvc", *remote, cwd=trained)
    change(trained, register__experiment=tmp_path.name)
    commit(trained, "Keep data in S3")
    return trained
