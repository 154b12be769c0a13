"""The circle's workflows under act: a push, its release, drift, a retraining, a gate that rejects."""

from pathlib import Path

import pytest
from circle import Circle, begun, log, turn
from standin import Clone, Server, StandIn
from trained import change, trained_once

__all__ = ["trained_once"]


@pytest.fixture
def standin(trained_once: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch):
    """A repository without registry or engine, a tracking server on disk, and production's log."""
    (cache / "dvc").symlink_to(trained_once / "cache")
    monkeypatch.setenv("LOOP_ENGINE", "none")
    server = Server(tmp_path / "github", "--repository", "acme/r", *Circle.variables(tmp_path))
    yield StandIn(server, "acme/r")
    server.stop()


@pytest.fixture
def clone(standin: StandIn, trained_once: Path, tmp_path: Path) -> Clone:
    """A person's clone of a trained main whose production is logged."""
    return begun(standin, trained_once, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1200)  # three minutes of work, on a machine that may be busy
def test_the_circle(standin: StandIn, clone: Clone, tmp_path: Path, cache: Path) -> None:
    """From a push to a canary that is rolled back, by what each run leaves."""
    turn(Circle(standin, clone, tmp_path, cache / "images"))


@pytest.mark.slow
def test_a_gate_that_rejects(standin: StandIn, clone: Clone) -> None:
    """It is red and leaves no commit, no pull request and no version in the registry."""
    change(clone.folder, **{"gate.floors": {"average_precision": 0.99}})
    clone.push("Ask for more", {})
    before = log(clone)
    (run,) = standin.finished("release.yml")
    assert run["conclusion"] == "failure"
    assert "average_precision" in standin.log(run)
    assert log(clone) == before
    assert standin.ask("GET", "/pulls").json() == []
    assert not (clone.folder.parent / "mlflow.db").exists()
