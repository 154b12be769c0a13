"""The merge queue at the stand-in: the base gets only commits that the required check has passed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from standin import Clone, StandIn, repositories

from loop_demo.github.merging import REQUIRED as CHECK

QUEUE = (
    "name: Queue\non: merge_group\njobs: {a: {name: %s, runs-on: ubuntu-latest, steps: [{run: 'true'}]}}\n"
)
PUSH = "name: Push\non: {push: {branches: [main]}}\njobs: {a: {runs-on: ubuntu-latest}}\n"
ACT = """\
#!/bin/sh
for word; do
  case $word in --workflows=*) ! grep -q 'exit 1' "${word#*=}" || exit 1 ;; esac
done
"""


@pytest.fixture(scope="module")
def queued(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Iterator[StandIn]]:
    """Start a server that requires the queue. In place of act it runs a program that fails at `exit 1`."""
    root = tmp_path_factory.mktemp("queue")
    act = root / "act"
    act.write_text(ACT)
    act.chmod(0o755)
    options = ["--act", str(act), "--merge-queue"]
    with repositories(root / "github", 7, *options) as each:
        yield each


@pytest.fixture
def standin(queued: Iterator[StandIn]) -> StandIn:
    return next(queued)


def begin(standin: StandIn, folder: Path, check: str = CHECK) -> Clone:
    files = {".github/workflows/queue.yml": QUEUE % check, ".github/workflows/push.yml": PUSH, "a": "1\n"}
    return standin.seed(folder, files)


def propose(standin: StandIn, clone: Clone, branch: str, files: dict[str, str]) -> dict[str, Any]:
    clone.git("checkout", "-q", "origin/main")
    clone.push(branch, files, branch)
    return standin.ask("POST", "/pulls", body={"head": branch, "base": "main", "title": branch}).json()


def test_the_base_becomes_the_checked_commit(standin: StandIn, folder: Path) -> None:
    """The queue merges two pull requests one on top of the other, as checked, and each merge is a push."""
    clone = begin(standin, folder)
    pulls = [propose(standin, clone, name, {name: "1\n"}) for name in ("x", "y")]
    for pull in pulls:
        assert standin.enqueue(pull["number"]).is_success
    assert [entry["reason"] for entry in standin.dequeued(2)] == ["merged", "merged"]
    clone.git("fetch", "-qp")
    groups = [run for run in reversed(standin.wait(4)) if run["event"] == "merge_group"]
    second = clone.git("rev-parse", "origin/main").stdout.strip()
    first = clone.git("rev-parse", "origin/main^1").stdout.strip()
    assert [run["head_sha"] for run in groups] == [first, second]
    assert [run["head_sha"] for run in standin.runs(event="push")] == [second, first]
    assert "gh-readonly-queue" not in clone.git("ls-remote", "origin").stdout
    assert standin.ask("GET", f"/pulls/{pulls[1]['number']}").json()["merge_commit_sha"] == second
    group = standin.event(groups[1])["merge_group"]
    base = f"refs/heads/gh-readonly-queue/main/pr-2-{first}"
    assert (group["head_ref"], group["base_ref"], group["base_sha"]) == (base, "refs/heads/main", first)
    assert groups[1]["head_branch"] == base.removeprefix("refs/heads/")
    assert not groups[1]["head_repository"]["fork"]


def test_a_failed_check_removes_a_pull_request(standin: StandIn, folder: Path) -> None:
    """If the check fails, the pull request leaves the queue with a reason, stays open, and the base stays."""
    clone = begin(standin, folder)
    bad = (QUEUE % CHECK).replace("true", "exit 1")
    pull = propose(standin, clone, "x", {".github/workflows/queue.yml": bad})
    standin.enqueue(pull["number"])
    (entry,) = standin.dequeued()
    assert entry["reason"] == f"'{CHECK}' failed"
    assert standin.ask("GET", f"/pulls/{pull['number']}").json()["state"] == "open"
    assert clone.git("ls-remote", "origin", "main").stdout.split()[0] == pull["base"]["sha"]


@pytest.mark.parametrize("name", ["Another job", f"{CHECK} on Windows"])
def test_a_missing_check_removes_a_pull_request(standin: StandIn, folder: Path, name: str) -> None:
    """If no workflow on merge_group has the required job, the pull request leaves the queue."""
    clone = begin(standin, folder, name)
    standin.enqueue(propose(standin, clone, "x", {"x": "1\n"})["number"])
    (entry,) = standin.dequeued()
    assert entry["reason"] == f"no workflow with a job '{CHECK}' listens to merge_group"


def test_a_conflict_removes_a_pull_request(standin: StandIn, folder: Path) -> None:
    """A pull request with a conflict leaves the queue without being checked."""
    clone = begin(standin, folder)
    pull = propose(standin, clone, "x", {"a": "2\n"})
    clone.git("checkout", "-q", "origin/main")
    clone.push("theirs", {"a": "3\n"})
    standin.enqueue(pull["number"])
    assert [entry["reason"] for entry in standin.dequeued()] == ["it does not merge into its base"]


def test_only_the_queue_merges(standin: StandIn, folder: Path) -> None:
    """Direct merges, pushes to the queue's branches, unknown pull requests and those enqueued are refused."""
    clone = begin(standin, folder)
    pull = propose(standin, clone, "x", {"x": "1\n"})
    answer = standin.ask("PUT", f"/pulls/{pull['number']}/merge")
    assert (answer.status_code, "merge queue" in answer.json()["message"]) == (405, True)
    pushed = clone.git("push", "origin", "HEAD:refs/heads/gh-readonly-queue/main/x", check=False)
    assert "hidden ref" in pushed.stderr
    assert standin.enqueue(0).json()["message"] == "Not Found"
    assert standin.enqueue(pull["number"]).is_success
    again = standin.enqueue(pull["number"])  # it waits, or is merged already
    assert (again.status_code, "closed, or already in" in again.json()["message"]) == (422, True)


def test_a_repository_without_a_queue_refuses_to_enqueue(empty: Iterator[StandIn], folder: Path) -> None:
    """Without a merge queue, enqueueing is refused with GitHub's message."""
    standin = next(empty)
    pull = propose(standin, begin(standin, folder), "x", {"x": "1\n"})
    assert "not enabled" in standin.enqueue(pull["number"]).json()["message"]
