"""Fixtures of the loop on servers."""

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
    """A client of the MLflow server."""
    for name, value in services.environment.items():
        monkeypatch.setenv(name, value)
    return mlflow.MlflowClient(services.environment["MLFLOW_TRACKING_URI"])


@pytest.fixture
def clone(trained: Path, services: Services, tmp_path: Path) -> Path:
    """The trained clone, with a prefix of the bucket as DVC's remote and an experiment of its own."""
    remote = ("remote", "add", "--default", "storage", f"s3://dvc/{tmp_path.name}")
    run(sys.executable, "-m", "dvc", *remote, cwd=trained)
    change(trained, register__experiment=tmp_path.name)
    commit(trained, "Keep data in S3")
    return trained
