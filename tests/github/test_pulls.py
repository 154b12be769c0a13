"""Pull requests at the stand-in: their refs, how they are merged, and the runs that their changes start."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
from standin import Clone, Server, StandIn

from loop.delivery.proposal import opened

ON_PULL = """\
name: Pull
on: {pull_request: {branches: [main], types: [opened, synchronize, reopened, edited, closed]}}
jobs: {a: {runs-on: ubuntu-latest, steps: [{run: 'true'}]}}
"""


@pytest.fixture
def clone(standin: StandIn, folder: Path) -> Clone:
    """Return a person's clone with a branch `topic` of two commits, and `old` at main's first commit."""
    clone = standin.seed(folder, {".github/workflows/pull.yml": ON_PULL, "a": "1\n"})
    clone.git("push", "-q", "origin", "HEAD:old")
    clone.push("one\n\nStep: 1", {"b": "1\n"}, "topic")
    clone.push("two", {"c": "1\n"}, "topic")
    return clone


def propose(standin: StandIn, **body: Any) -> int:
    body = {"head": "topic", "base": "main", "title": "Propose", "body": "why", **body}
    answer = standin.ask("POST", "/pulls", body=body)
    assert answer.status_code == 201, answer.text
    return answer.json()["number"]


def edit(standin: StandIn, number: int, **body: Any) -> int:
    return standin.ask("PATCH", f"/pulls/{number}", body=body).status_code


def actions(standin: StandIn) -> list[dict[str, Any]]:
    """Return the events that started runs, oldest first."""
    return [standin.event(run) for run in reversed(standin.runs())]


def test_refs_of_a_pull_request_can_be_fetched_but_not_pushed(standin: StandIn, clone: Clone) -> None:
    """refs/pull/N/head is the proposed commit, and refs/pull/N/merge its merge into the current base."""
    number = propose(standin)
    head = clone.git("rev-parse", "HEAD").stdout.strip()
    clone.git("checkout", "-q", "origin/old")
    base = clone.push("meanwhile", {"d": "1\n"})
    clone.git("fetch", "-q", "origin", f"refs/pull/{number}/*:refs/pr/*")
    assert clone.git("rev-parse", "refs/pr/head").stdout.strip() == head
    assert clone.git("log", "-1", "--format=%P", "refs/pr/merge").stdout.split() == [base, head]
    for ref in ("head", "merge"):
        done = clone.git("push", "origin", f"HEAD:refs/pull/{number}/{ref}", check=False)
        assert "hidden ref" in done.stderr


def test_rebase_keeps_each_commit(standin: StandIn, clone: Clone) -> None:
    """A rebase puts each commit on top of the base, with its author and message, under a new hash."""
    number = propose(standin)
    clone.git("checkout", "-q", "origin/old")
    base = clone.push("meanwhile", {"d": "1\n"})
    assert standin.ask("PUT", f"/pulls/{number}/merge", body={"merge_method": "rebase"}).status_code == 200
    clone.git("fetch", "-q")
    shown = clone.git("log", "--format=%an %cn %s %b", f"{base}..origin/main").stdout.splitlines()
    assert [line.strip() for line in shown if line] == ["Person person two", "Person person one Step: 1"]
    assert clone.git("show", "origin/main:d").stdout == "1\n"


def test_rebase_refuses_a_conflict(standin: StandIn, clone: Clone) -> None:
    """A rebase with a conflict is answered with 405, and main does not move."""
    number = propose(standin)
    clone.git("checkout", "-q", "origin/old")
    sha = clone.push("theirs", {"b": "9\n"})
    answer = standin.ask("PUT", f"/pulls/{number}/merge", body={"merge_method": "rebase"})
    assert answer.status_code == 405
    assert clone.git("ls-remote", "origin", "main").stdout.split()[0] == sha


def test_retargeting_fires_edited(standin: StandIn, clone: Clone) -> None:
    """A new base starts the workflows that the old base did not, with an event that names the old base."""
    number = propose(standin, base="old")
    old = clone.git("rev-parse", "origin/old").stdout.strip()
    assert actions(standin) == []
    assert edit(standin, number, base="main") == 200
    (event,) = actions(standin)
    assert (event["action"], event["pull_request"]["base"]["ref"]) == ("edited", "main")
    assert event["changes"] == {"base": {"ref": {"from": "old"}, "sha": {"from": old}}}
    assert [edit(standin, number, base=base) for base in ("nowhere", "topic")] == [422, 422]


def test_each_change_fires_once(standin: StandIn, clone: Clone) -> None:
    """A new title, closing and reopening fire one event each; a request that changes nothing fires none."""
    number = propose(standin)
    same = {"title": "New", "body": "why"}
    assert [edit(standin, number, **same) for _ in range(2)] == [200, 200]
    assert [edit(standin, number, state=state) for state in ("closed", "closed", "open")] == [200] * 3
    events = actions(standin)
    assert [event["action"] for event in events] == ["opened", "edited", "closed", "reopened"]
    assert events[1]["changes"] == {"title": {"from": "Propose"}}


def test_a_merge_fires_closed(standin: StandIn, clone: Clone) -> None:
    """A merge fires `closed` with `merged`; afterwards the pull request cannot be reopened or retargeted."""
    number = propose(standin)
    standin.ask("PUT", f"/pulls/{number}/merge", body={"merge_method": "squash"})
    closed = actions(standin)[-1]
    assert (closed["action"], closed["pull_request"]["merged"]) == ("closed", True)
    assert [edit(standin, number, state="open"), edit(standin, number, base="old")] == [422, 422]


def test_a_push_that_contains_a_pull_request_merges_it(standin: StandIn, clone: Clone) -> None:
    """If somebody pushes a branch's commits to its base, its pull request counts as merged, as at GitHub."""
    number = propose(standin)
    sha = clone.push("mine too", {"e": "1\n"})
    pull = standin.ask("GET", f"/pulls/{number}").json()
    assert (pull["merged"], pull["merge_commit_sha"]) == (True, sha)


def test_an_unrelated_history_may_be_pushed(standin: StandIn, clone: Clone, tmp_path: Path) -> None:
    """A branch with an unrelated history may be pushed, even over main."""
    other = Clone(tmp_path / "other")
    subprocess.run(["git", "init", "-q", other.folder], check=True)
    other.git("remote", "add", "origin", standin.clone_url("person"))
    other.commit("another beginning", {"z": "1\n"})
    for branch in ("orphan", "main"):
        other.git("push", "-qf", "origin", f"HEAD:{branch}")
    assert standin.ask("GET", "/pulls").json() == []


def test_workflows_may_not_propose_until_a_person_allows_it(tmp_path: Path) -> None:
    """As in a new repository at GitHub, a workflow's pull request is refused until a person allows it."""
    server = Server(tmp_path / "root", "--at-once", "0", "--act", "false", "--no-pulls-by-actions")
    standin = StandIn(server, "acme/loop")
    standin.seed(tmp_path / "clone", {"a": "1\n"}).push("one", {"b": "1\n"}, "topic")
    assert opened(standin.as_("bot"), "topic", "One", "why") is None
    assert opened(standin.as_("person"), "topic", "One", "why") == 1
    server.stop()
