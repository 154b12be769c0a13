"""A pull request that trains otherwise, from push to report, by the repository's own workflow under act."""

from pathlib import Path

import pytest
from standin import Clone, Server, StandIn
from trained import OTHERWISE, change, copy, loop, trained_once

__all__ = ["trained_once"]


@pytest.fixture
def standin(trained_once: Path, tmp_path: Path, cache: Path):
    """A repository whose main is trained, with DVC's cache warm, as CI restores it."""
    (cache / "dvc").symlink_to(trained_once / "cache")
    server = Server(tmp_path / "github", "--repository", "acme/r", "--repository", "mallory/r")
    yield StandIn(server, "acme/r")
    server.stop()


@pytest.mark.slow
@pytest.mark.timeout(900)  # a check of a model, on a machine that may be busy
def test_from_push_to_report(standin: StandIn, trained_once: Path, tmp_path: Path) -> None:
    """One comment; the same in the summary; it says how long it took.

    The pull request is a fork's, whose runs may write nothing. test_runs.py shows that the next push
    keeps the comment up to date.
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
