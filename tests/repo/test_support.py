"""Tests start from the same files in the template and in every fork."""

import subprocess
from pathlib import Path

import pytest
import trained
from releases import MODEL, canary

from loop.core import params
from loop.core.release_state import State, files

pytestmark = pytest.mark.sample


def test_a_work_tree_has_the_tests_own_model_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fork tests its pull requests as the template does, whatever its own models and their releases are."""
    fork, to = tmp_path / "fork", tmp_path / "to"
    theirs = {
        "params.yaml": "models: {m: {}}",
        "dvc.lock": "stages: {}",
        "src/models/m/schema.py": "",
        "bentos/m/asgi.py": "",
        "kustomize/models/m/kustomization.yaml": "",
        "tests/models/m/test_features.py": "",
        "data/m/metrics.json": "{}",
        **files(canary(10), "moon", "m"),
    }
    for path, text in theirs.items():
        (fork / path).parent.mkdir(parents=True, exist_ok=True)
        (fork / path).write_text(text)
    subprocess.run(["git", "init", "-q", fork], check=True)
    monkeypatch.setattr(trained, "REPOSITORY", fork)
    trained.work_tree(to)
    assert list(params.read(to)) == [MODEL]
    assert not [path for path in theirs if path != "params.yaml" and (to / path).exists()]
    for path, text in files(State(), "production", MODEL).items():
        assert (to / path).read_text() == text
