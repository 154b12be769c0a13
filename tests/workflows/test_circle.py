"""The whole loop's workflows under act: a push, its release, drift, a retraining, and a gate that rejects."""

import shutil
from pathlib import Path

import pytest
from circle import Circle, begun, log, turn
from standin import Clone, Server, StandIn
from trained import change, trained_once

from loop.candidate import tracking

__all__ = ["trained_once"]


@pytest.fixture
def standin(trained_once: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch):
    """Start a repository without registry or engine, with a tracking server on disk and production's log."""
    (cache / "dvc").symlink_to(trained_once / "cache")
    monkeypatch.setenv("LOOP_ENGINE", "none")
    server = Server(tmp_path / "github", "--repository", "acme/r", *Circle.variables(tmp_path))
    yield StandIn(server, "acme/r")
    server.stop()


@pytest.fixture
def clone(standin: StandIn, trained_once: Path, tmp_path: Path) -> Clone:
    return begun(standin, trained_once, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1200)  # it takes three minutes, but the machine may be busy
def test_the_circle_turns(standin: StandIn, clone: Clone, tmp_path: Path, cache: Path) -> None:
    """The workflows go the whole way from a push to a canary that is rolled back."""
    shutil.copy(tracking._empty(), tmp_path / "mlflow.db")  # otherwise a job would take seconds to make it
    turn(Circle(standin, clone, tmp_path, cache / "images"))


@pytest.mark.slow
def test_a_gate_that_rejects_leaves_nothing(standin: StandIn, clone: Clone) -> None:
    """If the gate rejects, the run fails, and leaves no commit, pull request or version in the registry."""
    change(clone.folder, **{"gate.floors": {"average_precision": 0.99}})
    clone.commit("Ask for more", {})
    clone.git("push", "-q", standin.clone_url("bot"), "HEAD:main")  # so that no other workflow runs
    before = log(clone)
    standin.as_("person").dispatch("release.yml", {})
    (run,) = standin.finished("release.yml")
    assert run["conclusion"] == "failure"
    assert "average_precision" in standin.log(run)
    assert log(clone) == before
    assert standin.ask("GET", "/pulls").json() == []
    assert not (clone.folder.parent / "mlflow.db").exists()
