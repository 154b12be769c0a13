"""CI evaluates a pull request that changes a model, and reports on it, under act."""

from pathlib import Path

import pytest
from standin import Clone, Server, StandIn
from trained import OTHERWISE, change, copy, loop, trained_once

__all__ = ["trained_once"]


@pytest.fixture
def standin(trained_once: Path, tmp_path: Path, cache: Path):
    """Start a repository with a trained model, and with DVC's cache as CI restores it."""
    (cache / "dvc").symlink_to(trained_once / "cache")
    server = Server(tmp_path / "github", "--repository", "acme/r", "--repository", "mallory/r")
    yield StandIn(server, "acme/r")
    server.stop()


@pytest.mark.slow
@pytest.mark.timeout(900)  # an evaluation takes long if the machine is busy
def test_a_forks_pull_request_gets_a_report(standin: StandIn, trained_once: Path, tmp_path: Path) -> None:
    """A fork's pull request gets one comment with the gate's verdict and the time since the push.

    The fork's own run may not write, so a second workflow posts the comment. That the next push updates the
    comment is tested in test_runs.py.
    """
    clone = Clone(copy(trained_once, tmp_path))
    clone.git("push", "-q", standin.clone_url("bot"), "HEAD:main")
    clone.git("remote", "set-url", "origin", standin.fork.clone_url("person"))
    change(clone.folder, **OTHERWISE)
    loop(clone.folder, "repro", "card-fraud")
    clone.push("Train 30 trees", {}, "more-trees")
    theirs = {"head": "mallory:more-trees", "base": "main", "title": "Train 30 trees"}
    number = standin.as_("person").call("POST", "/pulls", json=theirs)["number"]
    (run,) = standin.wait(seconds=400)
    assert run["conclusion"] == "success", standin.log(run)[-5000:]
    assert standin.reported(run)["conclusion"] == "success"
    (comment,) = standin.ask("GET", f"/issues/{number}/comments").json()
    assert "## ✅ card-fraud: promote" in comment["body"]
    assert "s after the push" in comment["body"]
    assert "| metric | this commit |" in standin.summary(run)
