"""A fork's first week at the stand-in, as one story: every workflow run is green, without any configuration.

`make first-week` runs it in about 20 minutes. The fork's CI runs lint and the quick tests three times, the
last time with new locks.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from circle import log, state
from standin import Clone, Server, StandIn
from trained import MODEL, change, loop, work_tree

NAME = "acme/fork"
URL = f"https://github.com/{NAME}.git"
# The refreshed locks hold no newer package, because the quick tests are known to pass with these.
NEWEST = "2026-11-27T00:00:00Z"


@pytest.fixture
def standin(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """Start an empty repository with GitHub's default settings, without a container engine."""
    for name, value in {"LOOP_ENGINE": "none", "UV_EXCLUDE_NEWER": NEWEST}.items():
        monkeypatch.setenv(name, value)
    server = Server(tmp_path / "github", "--repository", NAME, "--no-pulls-by-actions")
    yield StandIn(server, NAME)
    server.stop()


def all_green(standin: StandIn) -> None:
    """Wait until all runs have ended, and check that they succeeded."""
    for run in standin.wait(seconds=1500):
        assert run["conclusion"] == "success", f"{run['display_title']}\n{standin.log(run)[-8000:]}"


def train_and_release(standin: StandIn, clone: Clone, count: int, depth: int) -> None:
    """Train with these params in a pull request; merge it, and then its release to production."""
    branch = f"trees-{count}"
    clone.git("fetch", "-q", "origin")
    clone.git("checkout", "-q", "-B", branch, "origin/main")
    change(clone.folder, train__n_estimators=count, train__max_depth=depth)
    loop(clone.folder, "repro", MODEL)
    clone.push(f"Train {count} trees", {}, branch)
    merge(standin, branch)
    merge(standin, f"release/{MODEL}/{state(clone, 'dev').stable.key}")


def merge(standin: StandIn, branch: str) -> None:
    """Open a branch's pull request, wait for its checks, merge it, and wait for the runs that this starts."""
    number = standin.as_("person").pull_request(branch, branch, "why")["number"]
    all_green(standin)
    done = standin.ask("PUT", f"/pulls/{number}/merge", body={"merge_method": "squash"})
    assert done.status_code == 200, done.text
    all_green(standin)


def run_on_schedule(standin: StandIn, workflow: str) -> None:
    headers = {"Authorization": f"Bearer {standin.server.tokens['person']}"}
    url = f"{standin.server.url}/_schedule/{standin.name}/{workflow}"
    httpx.post(url, headers=headers).raise_for_status()


@pytest.mark.timeout(3600)
def test_the_first_week(standin: StandIn, tmp_path: Path) -> None:
    """Every run of a new fork is green: first push, releases, a rollback, and the weekly workflows."""
    work_tree(tmp_path / "clone")
    clone = Clone(tmp_path / "clone")
    clone.git("init", "-q", "-b", "main")
    clone.git("remote", "add", "origin", standin.clone_url("person"))
    clone.push("Initial commit", {})
    all_green(standin)

    loop(clone.folder, "init", "--name", "fork", "--url", URL, "--registry", "ghcr.io/acme")
    clone.push("Name this fork", {})
    all_green(standin)

    # So weak that the gate surely finds the next model better.
    train_and_release(standin, clone, 1, depth=1)
    first = state(clone, "production").stable.key
    train_and_release(standin, clone, 40, depth=4)
    promote(standin, clone)
    second = state(clone, "production").stable.key
    assert second != first

    place = {"model": MODEL, "environment": "production", "key": second, "to": first}
    standin.as_("person").dispatch("rollback.yml", {**place, "why": "hurts"})
    all_green(standin)
    now = state(clone, "production")
    assert (now.stable.key, now.why_barred(second)) == (first, "hurts")

    for workflow in ("drift.yml", "train.yml", "refresh-lock.yml"):
        run_on_schedule(standin, workflow)
    all_green(standin)
    (checked,) = [r for r in standin.runs() if (r["name"], r["head_branch"]) == ("CI", "refresh-lock")]
    assert checked["conclusion"] == "success"
    print(json.dumps({"runs": len(standin.runs()), "commits": len(log(clone))}))


def promote(standin: StandIn, clone: Clone) -> None:
    """Promote production's canary step by step, as the judge would."""
    from loop.delivery.steps import step_of

    while (now := state(clone, "production")).canary:
        inputs = {"model": MODEL, "environment": "production", "key": now.canary.key, "from": step_of(now)}
        standin.as_("bot").dispatch("promote.yml", {**inputs, "reason": "sound"})
        all_green(standin)
