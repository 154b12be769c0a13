"""Runs at the stand-in: how a dispatch is answered, where a run comes from, and how a run is cancelled."""

import time
from pathlib import Path
from typing import Any

import pytest
from standin import FORKER, Clone, StandIn, repositories

JOBS = "jobs: {a: {runs-on: ubuntu-latest, steps: [{run: 'true'}]}}\n"
INPUTS = "".join(f"      i{number}: {{default: ''}}\n" for number in range(25))
HAND = f"name: By hand\nrun-name: As asked\non:\n  workflow_dispatch:\n    inputs:\n{INPUTS}{JOBS}"
FORGED = f"name: By hand\nrun-name: As asked\non: {{workflow_dispatch: , pull_request: }}\n{JOBS}"
WIDE = HAND.replace("    inputs:\n", "    inputs:\n      i25: {default: ''}\n")
PATH = ".github/workflows/hand.yml"
DISPATCH = "/actions/workflows/hand.yml/dispatches"


@pytest.fixture
def clone(standin: StandIn, folder: Path) -> Clone:
    return standin.seed(folder, {PATH: HAND, ".github/workflows/wide.yml": WIDE, "a": "1\n"})


def dispatch(standin: StandIn, **body: Any) -> Any:
    answer = standin.ask("POST", DISPATCH, body={"ref": "main", "return_run_details": True, **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.usefixtures("clone")
def test_a_dispatch_returns_its_run_on_request(standin: StandIn) -> None:
    """A dispatch that asks for details gets 200 with the run's id and URLs; others get 204 without a body."""
    details = dispatch(standin)
    run = standin.ask("GET", f"/actions/runs/{details['workflow_run_id']}").json()
    assert (details["run_url"], details["html_url"]) == (run["url"], run["html_url"])
    assert (run["event"], run["head_branch"]) == ("workflow_dispatch", "main")
    silent = standin.ask("POST", DISPATCH, body={"ref": "main"})
    assert (silent.status_code, silent.content) == (204, b"")


@pytest.mark.usefixtures("clone")
def test_a_dispatch_takes_at_most_25_inputs(standin: StandIn) -> None:
    """A dispatch may have 25 inputs; a 26th is refused, whether it is sent or declared."""
    dispatch(standin, inputs={f"i{number}": "x" for number in range(25)})
    body = {"ref": "main", "inputs": {f"i{number}": "x" for number in range(26)}}
    for file in ("hand.yml", "wide.yml"):
        assert standin.ask("POST", f"/actions/workflows/{file}/dispatches", body=body).status_code == 422
    assert standin.ask("POST", DISPATCH.replace("hand", "wide"), body={"ref": "main"}).status_code == 422


def test_a_stranger_can_forge_a_run_but_not_its_origin(standin: StandIn, clone: Clone) -> None:
    """A fork's pull request can start a run of our workflow with our title, but event and origin differ."""
    ours = dispatch(standin)["workflow_run_id"]
    clone.git("remote", "add", "fork", standin.fork.clone_url("stranger"))
    clone.commit("forge", {PATH: FORGED})
    clone.git("push", "-q", "fork", "HEAD:main")
    body = {"head": f"{FORKER}:main", "base": "main", "title": "Innocent"}
    assert standin.ask("POST", "/pulls", "stranger", body).status_code == 201
    forged, real = standin.as_("person").runs("hand.yml")
    same = ("name", "display_title", "path", "workflow_id", "head_branch")
    assert [forged[key] for key in same] == [real[key] for key in same]
    assert (real["id"], real["event"], forged["event"]) == (ours, "workflow_dispatch", "pull_request")
    origins = [
        (run["head_repository"]["full_name"], run["head_repository"]["fork"]) for run in (real, forged)
    ]
    assert origins == [(standin.name, False), (standin.fork.name, True)]
    assert [run["triggering_actor"]["login"] for run in (real, forged)] == ["person", FORKER]
    assert forged["repository"]["full_name"] == standin.name
    (found,) = standin.as_("person").runs("hand.yml", event="workflow_dispatch")
    assert found["id"] == ours


def test_a_stranger_may_only_comment(standin: StandIn, clone: Clone) -> None:
    """A person without rights may comment, but cannot dispatch, cancel, merge, edit, set a status or push."""
    clone.push("change", {"a": "2\n"}, "topic")
    body = {"head": "topic", "base": "main", "title": "Change"}
    assert standin.ask("POST", "/pulls", body=body).status_code == 201
    assert standin.ask("POST", "/issues/1/comments", "stranger", {"body": "hm"}).status_code == 201
    for how, path, sent in (
        ("POST", DISPATCH, {"ref": "main"}),
        ("POST", f"/actions/runs/{dispatch(standin)['workflow_run_id']}/cancel", None),
        ("PUT", "/pulls/1/merge", None),
        ("PATCH", "/pulls/1", {"title": "Mine"}),
        ("POST", f"/statuses/{clone.git('rev-parse', 'HEAD').stdout.strip()}", {"state": "success"}),
    ):
        assert standin.ask(how, path, "stranger", sent).status_code == 403, path
    pushed = clone.git("push", standin.clone_url("stranger"), "HEAD:refs/heads/mine", check=False)
    assert "403" in pushed.stderr


@pytest.mark.usefixtures("clone")
def test_runs_can_be_filtered(standin: StandIn) -> None:
    """Runs are filtered by event, branch, commit and status; a filter that the stand-in lacks is refused."""
    dispatch(standin)
    sha = standin.ask("GET", "/actions/runs").json()["workflow_runs"][0]["head_sha"]
    fit = ("event=workflow_dispatch", "branch=main", f"head_sha={sha}", "status=queued")
    for query in (*fit, "event=push", "head_sha=0", "status=success"):
        found = standin.ask("GET", f"/actions/runs?{query}").json()["workflow_runs"]
        assert len(found) == (query in fit), query
    assert standin.ask("GET", "/actions/runs?actor=person").status_code == 422


@pytest.mark.usefixtures("clone")
def test_a_queued_run_is_cancelled_once(standin: StandIn) -> None:
    """A cancelled run ends as cancelled, and cannot be cancelled again."""
    cancel = f"/actions/runs/{dispatch(standin)['workflow_run_id']}/cancel"
    assert [standin.ask("POST", cancel).status_code for _ in range(2)] == [202, 409]
    (run,) = standin.runs()
    assert (run["status"], run["conclusion"]) == ("completed", "cancelled")


def test_cancelling_a_run_kills_its_job(tmp_path: Path) -> None:
    """A running run that is cancelled ends at once, as cancelled and not as failed."""
    act = tmp_path / "act"
    act.write_text("#!/bin/sh\necho begun\nexec sleep 300\n")
    act.chmod(0o755)
    with repositories(tmp_path / "github", 1, "--act", str(act)) as each:
        standin = next(each)
        standin.seed(tmp_path / "clone", {PATH: HAND})
        run = standin.ask("GET", f"/actions/runs/{dispatch(standin)['workflow_run_id']}").json()
        while "begun" not in standin.log(run):
            time.sleep(0.02)
        assert standin.ask("POST", f"/actions/runs/{run['id']}/cancel").status_code == 202
        (ended,) = standin.wait(seconds=20)
    assert ended["conclusion"] == "cancelled"
