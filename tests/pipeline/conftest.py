"""A root with a small world, whose code is the repository's own."""

import sys
from pathlib import Path

import pytest

from loop.core import params

SPLIT = {"kind": "time", "until": "2018-05-01T00:00:00", "train_days": 14, "delay_days": 7, "test_days": 7}


@pytest.fixture
def clone(tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root of a small world; commands called here work on it."""
    root = tmp_path / "root"
    root.mkdir()
    (root / "src").symlink_to(repository / "src")
    for name in ("dvc.yaml", "params.yaml"):
        (root / name).write_text((repository / name).read_text())
    small = {"customers": 100, "terminals": 1000, "days": 30}
    ingest = {"source": "simulator", "simulator": small}  # whatever a fork ingests
    params.edit(root, {"models.fraud_detector.ingest": ingest, "models.fraud_detector.split": SPLIT})
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(root)
    return root
