"""What tests start from is the same in the template and in every fork of it."""

import subprocess
from pathlib import Path

import pytest
import trained
from releases import canary

from loop.delivery.state import State, files

pytestmark = pytest.mark.sample


def test_a_work_tree_serves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fork that has released tests its pull requests as the template does: without any release."""
    fork, to = tmp_path / "fork", tmp_path / "to"
    for path, text in files(canary(10), "production", "m").items():
        (fork / path).parent.mkdir(parents=True, exist_ok=True)
        (fork / path).write_text(text)
    subprocess.run(["git", "init", "-q", fork], check=True)
    monkeypatch.setattr(trained, "REPOSITORY", fork)
    trained.work_tree(to)
    for path, text in files(State(), "production", "m").items():
        assert (to / path).read_text() == text
