"""A fixture for the tests of loop.pipeline: a small world of the tests' own model."""

import sys
from pathlib import Path

import pytest

from loop.core import params

SPLIT = {"kind": "time", "until": "2018-05-01T00:00:00", "train_days": 14, "delay_days": 7, "test_days": 7}


@pytest.fixture
def clone(tmp_path: Path, template: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the root of a small world, and make it the current folder."""
    root = tmp_path / "root"
    root.mkdir()
    (root / "src").symlink_to(template / "src")
    for name in ("dvc.yaml", "params.yaml"):
        (root / name).write_text((template / name).read_text())
    small = {"cards": 100, "days": 30}
    ingest = {"source": "simulator", "simulator": small}
    params.edit(root, {"models.card_fraud.ingest": ingest, "models.card_fraud.split": SPLIT})
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(root)
    return root
