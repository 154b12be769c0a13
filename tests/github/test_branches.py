"""At the stand-in, the default branch may have any name."""

from pathlib import Path

import pytest
from standin import StandIn

from loop_demo.github.hosting import Hosting

HAND = """\
on: {workflow_dispatch: , schedule: [{cron: '0 3 * * 1'}]}
jobs: {a: {runs-on: ubuntu-latest, steps: [{run: 'true'}]}}
"""
PATH = ".github/workflows/hand.yml"
DISPATCH = "/actions/workflows/hand.yml/dispatches"


def test_the_first_branch_of_an_empty_repository_becomes_its_default(standin: StandIn, folder: Path) -> None:
    """The first branch becomes the default of clones and of the API; a second branch does not change it."""
    first = standin.clone(folder)
    first.push("begin", {"a": "1\n"}, "master")
    first.push("more", {"a": "2\n"}, "main")
    assert standin.ask("GET", "").json()["default_branch"] == "master"
    again = standin.clone(folder.with_name("again"))
    assert again.git("branch", "--show-current").stdout.strip() == "master"


def test_main_is_the_default_if_it_is_pushed(standin: StandIn, folder: Path) -> None:
    """If several branches are pushed to an empty repository, as for a mirror, main stays the default."""
    clone = standin.clone(folder)
    clone.commit("begin", {"a": "1\n"})
    clone.git("push", "-q", "origin", "HEAD:a-branch", "HEAD:main")
    assert standin.ask("GET", "").json()["default_branch"] == "main"


def test_dispatches_and_timers_use_the_default_branch(standin: StandIn, folder: Path) -> None:
    """A workflow that is only on another branch cannot be dispatched; schedules run the default branch."""
    clone = standin.clone(folder)
    clone.push("begin", {"a": "1\n"}, "master")
    clone.push("hand", {PATH: HAND}, "main")
    assert standin.ask("POST", DISPATCH, body={"ref": "main"}).status_code == 404
    sha = clone.push("hand", {}, "master")
    assert standin.ask("POST", DISPATCH, body={"ref": "main"}).status_code == 204
    assert standin.own("POST", f"_schedule/{standin.name}/hand.yml").json()["head_sha"] == sha
    assert standin.runs()[0]["head_branch"] == "master"


def test_a_killed_start_leaves_no_half_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A repository exists only with its settings: without them it would refuse every push, at each start."""
    hosting, made = Hosting(tmp_path, "http://127.0.0.1"), tmp_path / "acme/loop.git"

    def killed(command: list[str | Path], **_: object) -> None:
        Path(command[-1]).mkdir()
        raise InterruptedError

    with monkeypatch.context() as patch, pytest.raises(InterruptedError):
        patch.setattr("loop_demo.github.hosting.subprocess.run", killed)
        hosting.create("acme/loop")
    assert not made.exists()
    hosting.create("acme/loop")
    assert "receivepack = true" in (made / "config").read_text()
