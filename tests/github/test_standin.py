"""The stand-in answers like GitHub, and starts the workflows that GitHub would start."""

import subprocess
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from standin import Clone, Server, StandIn, repositories

from loop.core.git import Git, PushRaced
from loop.monitoring.push import token_ends

ON_PUSH = "on: {push: {branches: [main], paths-ignore: [dvc.lock, 'release/**']}}\n"
ON_PULL = "on: {pull_request: {branches: [main]}}\n"
BY_HAND = """\
name: By hand
run-name: "Train ${{ inputs.model }}: ${{ inputs.reason || 'weekly' }}"
on:
  schedule: [{cron: '0 3 * * 1'}]
  workflow_dispatch:
    inputs:
      model: {required: true}
      reason: {default: ''}
      device: {type: choice, options: [cpu, cuda], default: cpu}
"""
JOBS = "jobs: {a: {runs-on: ubuntu-latest, steps: [{run: 'true'}]}}\n"
FILES = {
    ".github/workflows/push.yml": f"name: Push\n{ON_PUSH}{JOBS}",
    ".github/workflows/pull.yml": f"name: Pull\n{ON_PULL}{JOBS}",
    ".github/workflows/hand.yml": BY_HAND + JOBS,
    "a": "1\n",
}


@pytest.fixture
def clone(standin: StandIn, folder: Path) -> Clone:
    """Return a person's clone of a repository with three workflows, which have not run yet."""
    return standin.seed(folder, FILES)


def started(standin: StandIn) -> list[tuple[str, str]]:
    return [(run["name"], run["event"]) for run in reversed(standin.runs())]


def open_pull(standin: StandIn, clone: Clone, text: str = "2\n", branch: str = "topic") -> int:
    clone.push("change a", {"a": text}, branch)
    answer = standin.ask(
        "POST", "/pulls", body={"head": branch, "base": "main", "title": "Change a", "body": "why"}
    )
    assert answer.status_code == 201, answer.text
    return answer.json()["number"]


@pytest.mark.usefixtures("clone")
def test_a_listed_run_has_its_event(standin: StandIn) -> None:
    """A run is listed only after its event is written: one thread starts 40 runs while another lists them."""
    github = standin.as_("person")
    with ThreadPoolExecutor(1) as pool:
        begun = pool.submit(lambda: [github.dispatch("hand.yml", {"model": str(n)}) for n in range(40)])
        while not begun.done():
            for run in standin.ask("GET", "/actions/runs?per_page=1").json()["workflow_runs"]:
                assert standin.event(run)["inputs"]["model"]
    begun.result()
    assert len(standin.runs()) == 40


def test_every_answer_says_when_the_token_expires(standin: StandIn, clone: Clone) -> None:
    """Every answer has a header with the token's expiry date, in GitHub's format, which the monitor reads."""
    ends = token_ends(standin.as_("bot"))
    assert ends is not None
    assert 29 <= (ends - datetime.now(UTC)).days <= 30
    assert standin.ask("GET", "").json()["full_name"] == standin.name


def test_a_push_starts_workflows(standin: StandIn, clone: Clone) -> None:
    """A person's push to main starts the workflows with that trigger, at the pushed commit."""
    sha = clone.push("change", {"a": "2\n"})
    (run,) = standin.runs()
    assert (run["name"], run["event"], run["status"], run["head_sha"]) == ("Push", "push", "queued", sha)
    assert (run["display_title"], run["head_branch"], run["conclusion"]) == ("change", "main", None)


@pytest.mark.parametrize(
    ("message", "files", "branch"),
    [
        ("lock", {"dvc.lock": "x", "release/a/b": "x"}, "main"),
        ("other", {"a": "2\n"}, "other"),
        ("quiet [skip ci]", {"a": "2\n"}, "main"),
    ],
    ids=["ignored paths", "another branch", "skip ci"],
)
def test_filters_and_skip_ci_stop_a_push(
    standin: StandIn, clone: Clone, message: str, files: dict[str, str], branch: str
) -> None:
    """A push to another branch, of ignored paths only, or with [skip ci] starts no workflow."""
    clone.push(message, files, branch)
    assert started(standin) == []


def test_the_bot_starts_workflows_only_by_dispatch(standin: StandIn, clone: Clone, tmp_path: Path) -> None:
    """Pushes and pull requests with a workflow's own token start no workflow, but its dispatches do."""
    bot = standin.clone(tmp_path / "bot", "bot")
    bot.push("change", {"a": "2\n"})
    bot.push("more", {"a": "3\n"}, "proposal")
    standin.as_("bot").pull_request("proposal", "Proposal", "why")
    assert started(standin) == []
    standin.as_("bot").dispatch("hand.yml", {"model": "card-fraud"})
    assert started(standin) == [("By hand", "workflow_dispatch")]


def test_a_dispatch_titles_its_run(standin: StandIn, clone: Clone) -> None:
    """A dispatch is answered with 204, and the run's title is `run-name` with the inputs filled in."""
    body = {"ref": "main", "inputs": {"model": "m", "reason": "drift of a > 0.3"}}
    assert standin.ask("POST", "/actions/workflows/hand.yml/dispatches", body=body).status_code == 204
    standin.as_("person").dispatch("hand.yml", {"model": "m"})
    titles = [run["display_title"] for run in standin.as_("person").runs("hand.yml")]
    assert titles == ["Train m: weekly", "Train m: drift of a > 0.3"]


@pytest.mark.parametrize(
    ("file", "body", "status"),
    [
        ("none.yml", {"ref": "main"}, 404),
        ("push.yml", {"ref": "main"}, 422),
        ("hand.yml", {"inputs": {"model": "m"}}, 422),
        ("hand.yml", {"ref": "nowhere", "inputs": {"model": "m"}}, 422),
        ("hand.yml", {"ref": "main"}, 422),
        ("hand.yml", {"ref": "main", "inputs": {"model": "m", "colour": "red"}}, 422),
        ("hand.yml", {"ref": "main", "inputs": {"model": "m", "device": "abacus"}}, 422),
    ],
    ids=[
        "no such file",
        "no such trigger",
        "no ref",
        "no such ref",
        "required",
        "undeclared",
        "no such choice",
    ],
)
@pytest.mark.usefixtures("clone")
def test_a_wrong_dispatch_is_refused(standin: StandIn, file: str, body: object, status: int) -> None:
    """A dispatch that does not fit its workflow is refused with GitHub's status."""
    assert standin.ask("POST", f"/actions/workflows/{file}/dispatches", body=body).status_code == status
    assert started(standin) == []


def test_a_schedule_can_be_triggered(standin: StandIn, clone: Clone) -> None:
    """The stand-in's own path starts a workflow as its schedule would, but only if it has a schedule."""
    headers = {"Authorization": f"Bearer {standin.server.tokens['person']}"}
    hook = f"{standin.server.url}/_schedule/{standin.name}"
    assert httpx.post(f"{hook}/hand.yml", headers=headers).status_code == 200
    assert httpx.post(f"{hook}/push.yml", headers=headers).status_code == 404
    assert started(standin) == [("By hand", "schedule")]


def test_a_pull_request_starts_workflows(standin: StandIn, clone: Clone) -> None:
    """A new pull request, and each push to it, starts the workflows with that trigger."""
    number = open_pull(standin, clone)
    sha = clone.push("more", {"a": "3\n"}, "topic")
    assert started(standin) == [("Pull", "pull_request")] * 2
    pull = standin.ask("GET", f"/pulls/{number}").json()
    assert (pull["head"]["sha"], pull["base"]["ref"], pull["mergeable"]) == (sha, "main", True)


@pytest.mark.parametrize("method", ["merge", "squash"])
def test_a_merge_is_a_push_to_main(standin: StandIn, clone: Clone, method: str) -> None:
    """A merge moves main, and starts the workflows that a push to main starts."""
    number = open_pull(standin, clone)
    answer = standin.ask("PUT", f"/pulls/{number}/merge", body={"merge_method": method})
    clone.git("fetch", "-q")
    main = clone.git("rev-parse", "origin/main").stdout.strip()
    assert (answer.status_code, answer.json()["sha"]) == (200, main)
    parents = clone.git("log", "-1", "--format=%P", main).stdout.split()
    assert len(parents) == {"merge": 2, "squash": 1}[method]
    assert clone.git("show", f"{main}:a").stdout == "2\n"
    assert standin.ask("GET", f"/pulls/{number}").json()["merged"]
    assert started(standin)[-1] == ("Push", "push")


def test_a_squash_of_one_commit_keeps_its_message(standin: StandIn, clone: Clone) -> None:
    """If a pull request has one commit, a squash keeps its message, and so a release's trailers."""
    clone.push("release\n\nAction: release\nStep: canary-0", {"a": "2\n"}, "release/a")
    number = standin.as_("bot").pull_request("release/a", "Another title", "a table")["number"]
    standin.ask("PUT", f"/pulls/{number}/merge", body={"merge_method": "squash"})
    clone.git("fetch", "-q")
    message = clone.git("log", "-1", "--format=%B", "origin/main").stdout.strip()
    assert message == f"release (#{number})\n\nAction: release\nStep: canary-0"


def test_a_wrong_merge_is_refused(standin: StandIn, clone: Clone, tmp_path: Path) -> None:
    """A merge is refused with 409 if the head has moved, and with 405 at a conflict; main stays."""
    number = open_pull(standin, clone)
    merge = f"/pulls/{number}/merge"
    assert standin.ask("PUT", merge, body={"sha": "0" * 40}).status_code == 409
    other = standin.clone(tmp_path / "other")
    sha = other.push("theirs", {"a": "9\n"})
    assert standin.ask("PUT", merge).status_code == 405
    assert standin.ask("GET", f"/pulls/{number}").json()["mergeable"] is False
    assert other.git("ls-remote", "origin", "main").stdout.split()[0] == sha


def test_a_pull_request_may_come_from_a_fork(standin: StandIn, clone: Clone) -> None:
    """A fork's pull request names the fork, follows its branch, and differs from our branch of that name."""
    clone.git("remote", "add", "fork", standin.fork.clone_url("person"))
    for text in ("2\n", "3\n"):
        sha = clone.commit("change a", {"a": text})
        clone.git("push", "-q", "fork", "HEAD:topic")
        if text == "2\n":
            standin.as_("person").call(
                "POST", "/pulls", json={"head": "mallory:topic", "base": "main", "title": "Change a"}
            )
    pull = standin.ask("GET", "/pulls/1").json()
    assert (pull["head"]["label"], pull["head"]["repo"]["fork"]) == ("mallory:topic", True)
    assert (pull["head"]["sha"], pull["base"]["repo"]["full_name"]) == (sha, standin.name)
    assert started(standin) == [("Pull", "pull_request")] * 2
    assert standin.ask("GET", "/pulls?head=acme:topic").json() == []


def test_a_wrong_pull_request_is_refused(standin: StandIn, clone: Clone) -> None:
    """A pull request for the same branch again, without commits, or of a missing branch gets 422."""
    open_pull(standin, clone)
    clone.git("push", "-q", "origin", "origin/main:refs/heads/same")
    for head in ("topic", "same", "nowhere"):
        body = {"head": head, "base": "main", "title": "again"}
        assert standin.ask("POST", "/pulls", body=body).status_code == 422


def test_our_client_updates_instead_of_repeating(standin: StandIn, clone: Clone) -> None:
    """If our client opens a pull request or comments twice, it updates the first one.

    It finds its comment even on the second page, and leaves a person's comment with the same mark unchanged.
    """
    clone.push("change a", {"a": "2\n"}, "topic")
    bot = standin.as_("bot")
    first, second = (bot.pull_request("topic", title, "why") for title in ("One", "Two"))
    assert (first["number"], second["title"]) == (second["number"], "Two")
    path = f"/issues/{first['number']}/comments"
    for body in ("<!-- report -->\nmine", *(f"comment {number}" for number in range(100))):
        standin.ask("POST", path, body={"body": body})
    for body in ("draft", "final"):
        bot.comment(first["number"], "report", body)
    theirs = bot.call("GET", path, params={"per_page": 100})
    (comment,) = bot.call("GET", path, params={"per_page": 100, "page": 2})[1:]
    assert theirs[0]["body"] == "<!-- report -->\nmine"
    assert comment["body"] == "<!-- report -->\nfinal"
    assert comment["user"]["login"] == "github-actions[bot]"


def test_statuses_are_listed_newest_first(standin: StandIn, clone: Clone) -> None:
    """A commit's statuses are listed newest first, and an unknown state gets 422."""
    sha = clone.git("rev-parse", "HEAD").stdout.strip()
    for state, status in (("pending", 201), ("success", 201), ("fine", 422)):
        assert standin.ask("POST", f"/statuses/{sha}", body={"state": state}).status_code == status
    found = standin.ask("GET", f"/commits/{sha}/statuses").json()
    assert [status["state"] for status in found] == ["success", "pending"]


def test_nothing_is_served_without_a_token(standin: StandIn, tmp_path: Path) -> None:
    """Without a known token, neither REST nor Git serves anything."""
    assert httpx.get(f"{standin.server.url}/repos/{standin.name}/pulls").status_code == 401
    url = standin.clone_url("person").replace(standin.server.tokens["person"], "wrong")
    git = ["git", "-c", "credential.helper=", "clone", url, tmp_path / "x"]
    done = subprocess.run(git, capture_output=True, text=True, check=False)
    assert done.returncode
    assert not (tmp_path / "x").exists()


def test_missing_things_are_not_found(standin: StandIn, clone: Clone) -> None:
    """A missing pull request or repository gets 404, and no path leads out of the repositories' folder."""
    assert standin.ask("GET", "/pulls/99").status_code == 404
    assert StandIn(standin.server, "acme/none").ask("GET", "/pulls").status_code == 404
    assert StandIn(standin.server, "..%2F../etc").ask("GET", "/pulls").status_code in (401, 404)


def test_a_late_push_is_reported_as_a_race(standin: StandIn, clone: Clone, tmp_path: Path) -> None:
    """The second of two pushes from one parent is refused, and our client recognizes the race."""
    other = standin.clone(tmp_path / "other")
    clone.push("mine", {"a": "2\n"})
    late = other.commit("theirs", {"a": "3\n"})
    with pytest.raises(PushRaced):
        Git(other.folder).push(late, "main")


def test_state_survives_a_kill(tmp_path: Path) -> None:
    """Tokens, pull requests and queued runs survive when the stand-in is killed and starts again."""
    server = Server(tmp_path / "root", "--at-once", "0")
    standin = StandIn(server, "acme/loop")
    number = open_pull(standin, standin.seed(tmp_path / "clone", FILES))
    server.kill()
    again = StandIn(Server(tmp_path / "root", "--at-once", "0"), "acme/loop")
    assert again.server.tokens == server.tokens
    assert again.ask("GET", f"/pulls/{number}").json()["title"] == "Change a"
    assert [run["status"] for run in again.runs()] == ["queued"]
    again.server.stop()


def test_a_run_does_not_inherit_the_servers_variables(tmp_path: Path, monkeypatch) -> None:
    """A run gets neither another workflow's variables nor the options that somebody gave to make."""
    for name in ("GITHUB_REF", "GIT_DIR_OF_OTHERS", "MAKEFLAGS", "ARGS"):
        monkeypatch.setenv(name, "theirs")
    monkeypatch.setenv("OTHER", "kept")
    act = tmp_path / "act"
    act.write_text("#!/bin/sh\nenv\n")
    act.chmod(0o755)
    with repositories(tmp_path / "github", 1, "--act", str(act)) as each:
        standin = next(each)
        standin.seed(tmp_path / "clone", FILES).push("change", {"a": "2\n"})
        (run,) = standin.wait()
        log = standin.log(run)
    assert "OTHER=kept" in log
    assert "theirs" not in log
