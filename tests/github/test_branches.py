"""The default branch at the stand-in has any name."""

from pathlib import Path

import pytest
from standin import Server, StandIn

HAND = """\
on: {workflow_dispatch: , schedule: [{cron: '0 3 * * 1'}]}
jobs: {a: {runs-on: ubuntu-latest, steps: [{run: 'true'}]}}
"""
PATH = ".github/workflows/hand.yml"
DISPATCH = "/actions/workflows/hand.yml/dispatches"


def test_the_first_branch_of_an_empty_repository_becomes_its_default(standin: StandIn, folder: Path) -> None:
    """Clones check it out, and the API names it; a second branch changes nothing."""
    first = standin.clone(folder)
    first.push("begin", {"a": "1\n"}, "master")
    first.push("more", {"a": "2\n"}, "main")
    assert standin.ask("GET", "").json()["default_branch"] == "master"
    again = standin.clone(folder.with_name("again"))
    assert again.git("branch", "--show-current").stdout.strip() == "master"


def test_the_configured_default_is_kept_when_it_comes_with_others(standin: StandIn, folder: Path) -> None:
    """A push of several branches to an empty repository, as of a mirror, leaves main the default."""
    clone = standin.clone(folder)
    clone.commit("begin", {"a": "1\n"})
    clone.git("push", "-q", "origin", "HEAD:a-branch", "HEAD:main")
    assert standin.ask("GET", "").json()["default_branch"] == "main"


def test_dispatches_and_timers_use_the_default_branch(standin: StandIn, folder: Path) -> None:
    """A workflow that only another branch has cannot be dispatched; a timer runs on the default one."""
    clone = standin.clone(folder)
    clone.push("begin", {"a": "1\n"}, "master")
    clone.push("hand", {PATH: HAND}, "main")
    assert standin.ask("POST", DISPATCH, body={"ref": "main"}).status_code == 404
    sha = clone.push("hand", {}, "master")
    assert standin.ask("POST", DISPATCH, body={"ref": "main"}).status_code == 204
    assert standin.own("POST", f"_schedule/{standin.name}/hand.yml").json()["head_sha"] == sha
    assert standin.runs()[0]["head_branch"] == "master"


@pytest.mark.timeout(60)
def test_a_server_has_a_default_branch_of_its_own(tmp_path: Path) -> None:
    """`--default-branch` names it before anything is pushed."""
    server = Server(tmp_path / "root", "--at-once", "0", "--act", "false", "--default-branch", "trunk")
    assert StandIn(server, "acme/loop").ask("GET", "").json()["default_branch"] == "trunk"
    server.stop()
