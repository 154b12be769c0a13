"""The repository's own workflows under act, where no training is needed: what starts, skips, rejects."""

from pathlib import Path

import httpx
import pytest
from releases import track
from standin import Clone, Server, StandIn
from trained import MODEL, once, work_tree

from loop.core import repository
from loop.core.git import BOT
from loop.core.release_state import State, files, parse
from loop.core.release_state import folder as folder_of
from loop.core.repository import Repository

pytestmark = pytest.mark.slow
# A change whose CI takes seconds: no test belongs to it, and its manifests are checked.
RELEASED = files(State(stable=track("0123456789ab", 100)), "staging", MODEL)
NOBODYS = f"ghcr.io/{repository.TEMPLATE}"  # the registry of a fork that has named none


@pytest.fixture(scope="session")
def seed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This work tree in a repository of one commit. Tests push from it and never write to it."""

    def make(folder: Path) -> None:
        work_tree(folder)
        begun = Clone(folder)
        begun.git("init", "-q", "-b", "main")
        begun.commit("begin", {})
        begun.git("gc", "--quiet")  # so each push compresses nothing again

    return once(tmp_path_factory, "work-tree", make)


@pytest.fixture
def clone(standin: StandIn, folder: Path, seed: Path) -> Clone:
    """A person's clone of this work tree, pushed to a repository of its own; nothing has run."""
    Clone(seed).git("push", "-q", standin.clone_url("bot"), "HEAD:main")
    return standin.clone(folder)


def lines(standin: StandIn, run: dict[str, object], *words: str) -> list[str]:
    return [line for line in standin.log(run).splitlines() if all(word in line for word in words)]


def test_ci_of_words(standin: StandIn, clone: Clone) -> None:
    """A pull request that changes only words has the tests of words and no evaluation."""
    clone.push("say more", {"docs/more.md": "more\n"}, "words")
    standin.as_("person").pull_request("words", "Say more", "why")
    (run,) = standin.wait(seconds=300)
    assert run["conclusion"] == "success", standin.log(run)
    assert len(lines(standin, run, "Job succeeded")) == 3
    assert lines(standin, run, "Lint and test: docs", "[100%]")
    assert not lines(standin, run, "Evaluate")


def test_a_merge_queue_checks_what_will_be_main(clone: Clone, tmp_path: Path) -> None:
    """CI runs on the group, and its required check lets the pull request into main; a push would not."""
    server = Server(tmp_path / "queue", "--repository", "acme/r", "--merge-queue", "squash")
    queued = StandIn(server, "acme/r")
    clone.git("push", "-q", queued.clone_url("bot"), "HEAD:main")
    clone.git("remote", "set-url", "origin", queued.clone_url("person"))
    clone.push("release", RELEASED, "release")
    number = queued.as_("person").pull_request("release", "Release", "why")["number"]
    queued.enqueue(number)
    (entry,) = queued.dequeued(seconds=300)
    group = next(run for run in queued.runs() if run["event"] == "merge_group")
    assert entry["reason"] == "MERGE", queued.log(group)
    assert len(lines(queued, group, "Job succeeded")) == 3
    clone.git("fetch", "-q", "origin")
    assert clone.git("rev-parse", "origin/main").stdout.strip() == group["head_sha"]
    server.stop()


def test_ci_of_what_is_deployed(standin: StandIn, clone: Clone) -> None:
    """A pull request of no model and no code is reported too: what it does to the cluster, in one comment.

    By dispatch its branch is compared with main as well.
    """
    clone.push("release", RELEASED, "release")
    number = standin.as_("person").pull_request("release", "Release", "why")["number"]
    standin.as_("bot").dispatch("ci.yml", {}, ref="release")
    for run in standin.wait(2, seconds=300):
        assert run["conclusion"] == "success", standin.log(run)
        assert len(lines(standin, run, "Job succeeded")) == 3
        assert lines(standin, run, "Report changes to deployed manifests", "Job succeeded")
    (run,) = standin.runs(event="pull_request")
    assert standin.reported(run)["conclusion"] == "success"
    (comment,) = standin.ask("GET", f"/issues/{number}/comments").json()
    assert f"<summary><code>staging/{MODEL}</code>: +" in comment["body"]
    assert "+  kind: Deployment" in comment["body"] or "+kind: Deployment" in comment["body"]
    assert "s after the push" in comment["body"]


def test_ci_of_a_machine_that_oversteps(standin: StandIn, clone: Clone) -> None:
    """A commit in the machine's name that touches what people own is red, through the required check too."""
    (clone.folder / "docs/more.md").write_text("more\n")
    clone.git("add", "-A")
    bot = ["-c", f"user.name={BOT['GIT_AUTHOR_NAME']}", "-c", f"user.email={BOT['GIT_AUTHOR_EMAIL']}"]
    clone.git(*bot, "commit", "-q", "-m", "overstep\n\nAction: release")
    clone.git("push", "-q", "origin", "HEAD:overstep")
    standin.as_("person").pull_request("overstep", "Overstep", "why")
    (run,) = standin.wait(seconds=300)
    assert run["conclusion"] == "failure"
    assert lines(standin, run, "List what changed", "docs/more.md")
    assert lines(standin, run, "Everything required has passed", "Job failed")


def test_promotions_and_a_rollback_at_once(standin: StandIn, clone: Clone) -> None:
    """Each run ends in its one commit, which has its reason, or as superseded; the rollback is not undone."""
    new = "0123456789ab"
    begun = State(stable=track("abcdefabcdef", 90), canary=track(new, 10))
    clone.commit("canary", files(begun, "production", MODEL))
    clone.git("push", "-q", standin.clone_url("bot"), "HEAD:main")
    place = {"model": MODEL, "environment": "production", "key": new}
    for reason in ("sound", "sound again"):
        standin.as_("bot").dispatch("promote.yml", {**place, "from": "canary-10", "reason": reason})
    standin.as_("bot").dispatch("rollback.yml", {**place, "why": "errors"})
    found = standin.wait(3, seconds=300)
    assert [run["conclusion"] for run in found] == ["success"] * 3
    clone.git("fetch", "-q")
    told = clone.git("log", "--format=%B", "HEAD..origin/main").stdout
    assert told.count("Action: promote") <= 1
    assert told.count("Why: sound") == told.count("Action: promote")
    assert told.count("Why: errors") == told.count("Action: rollback") == 1
    summaries = [standin.summary(run) for run in found]
    assert sum("Superseded" in text for text in summaries) == 2 - told.count("Action: promote")
    assert clone.git("rev-list", "--merges", "HEAD..origin/main").stdout == ""
    path = f"{folder_of('production', MODEL)}/release.yaml"
    now = parse(clone.git("show", f"origin/main:{path}").stdout, path)
    assert now.canary is None
    assert now.why_barred(new) == "errors"


def test_an_earlier_release_comes_back(standin: StandIn, clone: Clone) -> None:
    """By dispatch, with its reason, past gate and canary; twice is once."""
    for key in ("abcdefabcdef", "0123456789ab"):
        clone.commit(f"serve {key}", files(State(stable=track(key, 100)), "production", MODEL))
    clone.git("push", "-q", standin.clone_url("bot"), "HEAD:main")
    place = {"model": MODEL, "environment": "production"}
    for _ in range(2):
        facts = {**place, "key": "0123456789ab", "to": "abcdefabcdef", "why": "hurts"}
        standin.as_("bot").dispatch("rollback.yml", facts)
    found = standin.wait(2, seconds=300)
    assert [run["conclusion"] for run in found] == ["success"] * 2
    clone.git("fetch", "-q")
    assert clone.git("log", "--format=%B", "HEAD..origin/main").stdout.count("Why: hurts") == 1
    path = f"{folder_of('production', MODEL)}/release.yaml"
    now = parse(clone.git("show", f"origin/main:{path}").stdout, path)
    assert (now.stable, now.why_barred("0123456789ab")) == (track("abcdefabcdef", 100), "hurts")


@pytest.mark.usefixtures("clone")
def test_promote_too_late(standin: StandIn) -> None:
    """A promotion of a canary that is not there changes nothing, says so, and is no failure."""
    inputs = {"model": MODEL, "key": "0123456789ab", "from": "canary-10"}
    standin.as_("bot").dispatch("promote.yml", inputs)
    (run,) = standin.wait(seconds=300)
    assert run["conclusion"] == "success", standin.log(run)
    assert lines(standin, run, "0123456789ab", "found")
    assert "Superseded" in standin.summary(run)


def test_what_main_has_not_merged_never_runs(standin: StandIn, clone: Clone, tmp_path: Path) -> None:
    """Neither a release of an unmerged commit nor one dispatched on its branch runs any of its code."""
    there = tmp_path / "pwned"
    models = (clone.folder / "src/loop/cli/pipeline.py").read_text()
    evil = f"import pathlib\npathlib.Path({str(there)!r}).touch()\n{models.replace('from __future__', '#')}"
    sha = clone.commit("unreviewed", {"src/loop/cli/pipeline.py": evil})
    clone.git("push", "-q", standin.clone_url("bot"), "HEAD:topic")
    for ref in ("topic", sha, sha[:7]):
        standin.as_("bot").dispatch("release.yml", {"ref": ref})
    standin.as_("bot").dispatch("release.yml", {}, ref="topic")
    standin.as_("bot").dispatch("train.yml", {}, ref="topic")
    found = standin.wait(5, seconds=300)
    assert [run["conclusion"] for run in found] == ["failure"] * 5
    assert not there.exists()
    logs = "".join(standin.log(run) for run in found)  # act may lose what a step says as it ends, not its end
    assert logs.count("Failure - Main Resolve the commit, which main must have merged") == 3, logs
    assert logs.count("Failure - Main Refuse any branch but main") == 2, logs


def test_what_an_event_carries_stays_data(standin: StandIn, clone: Clone, tmp_path: Path) -> None:
    """Names of branches, titles and inputs that a shell would run are run by none."""
    there = tmp_path / "pwned"
    spoilt = f"$(touch${{IFS}}{there});`touch${{IFS}}{there}`"
    branch = f"a$(touch${{IFS}}{there})"
    clone.push(spoilt, RELEASED, branch)
    standin.as_("person").pull_request(branch, f'"; {spoilt} #', spoilt)
    facts = {"model": f"'; {spoilt} #", "key": spoilt, "why": f'"; {spoilt}\n\nAction: release'}
    standin.as_("bot").dispatch("rollback.yml", facts)
    found = standin.wait(2, seconds=300)
    assert {run["event"]: run["conclusion"] for run in found} == {
        "pull_request": "success",
        "workflow_dispatch": "failure",
    }
    assert not there.exists()


def test_a_merge_in_conflict_starts_nothing(standin: StandIn, clone: Clone) -> None:
    """A pull request that main has overtaken is tested by nobody until its conflict is gone."""
    begin = clone.git("rev-parse", "HEAD").stdout.strip()
    clone.push("ours", {"docs/more.md": "ours\n"}, "words")
    clone.git("checkout", "-q", begin)
    clone.commit("theirs", {"docs/more.md": "theirs\n"})
    clone.git("push", "-q", standin.clone_url("bot"), "HEAD:main")
    pull = standin.as_("person").pull_request("words", "Say more", "why")
    assert pull["mergeable"] is False
    assert standin.runs() == []


@pytest.mark.usefixtures("clone")
@pytest.mark.parametrize("workflow", ["train.yml", "drift.yml"])
def test_timers_of_a_fresh_fork(standin: StandIn, workflow: str) -> None:
    """Where production is not logged, the weekly training and the daily look at drift are green."""
    headers = {"Authorization": f"Bearer {standin.server.tokens['person']}"}
    httpx.post(f"{standin.server.url}/_schedule/{standin.name}/{workflow}", headers=headers)
    (run,) = standin.wait(seconds=300)
    assert run["conclusion"] == "success", standin.log(run)
    assert len(lines(standin, run, "Job succeeded")) == 1


def test_release_of_a_fork_that_never_trained(standin: StandIn, clone: Clone) -> None:
    """Without dvc.lock nothing is trained or released; that is green, and says how to begin."""
    repository.write(clone.folder, Repository(name="r", url="https://github.com/o/r.git", registry=NOBODYS))
    clone.git("rm", "-q", "--ignore-unmatch", "dvc.lock")
    commit = clone.commit("begin", {})
    clone.git("push", "-q", standin.clone_url("bot"), "HEAD:main")
    standin.as_("person").dispatch("release.yml", {})
    (run,) = standin.wait(seconds=300)
    assert run["conclusion"] == "success", standin.log(run)
    assert lines(standin, run, "nothing to release", "./loop train")
    assert clone.git("ls-remote", "origin", "main").stdout.split()[0] == commit


@pytest.mark.usefixtures("clone")
def test_unknown_model(standin: StandIn) -> None:
    """A dispatch for a model that params.yaml has not is red, and names those that it has."""
    standin.as_("person").dispatch("train.yml", {"model": "nobody"})
    (run,) = standin.wait(seconds=300)
    assert run["conclusion"] == "failure"
    assert lines(standin, run, "params.yaml has no model 'nobody'")
