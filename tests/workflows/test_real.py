"""The repository's own workflows under act, as far as they need no training."""

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
# CI of this change takes seconds, because it runs no test and checks only the manifests.
RELEASED = files(State(stable=track("0123456789ab", 100)), "staging", MODEL)
UNNAMED = f"ghcr.io/{repository.TEMPLATE}"  # the registry of a fork that has not named its own


@pytest.fixture(scope="session")
def seed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Put this work tree into a repository of one commit. Tests push from it and never write to it."""

    def make(folder: Path) -> None:
        work_tree(folder)
        begun = Clone(folder)
        begun.git("init", "-q", "-b", "main")
        begun.commit("begin", {})
        begun.git("gc", "--quiet")  # otherwise each push would compress the files again

    return once(tmp_path_factory, "work-tree", make)


@pytest.fixture
def clone(standin: StandIn, folder: Path, seed: Path) -> Clone:
    """Push this work tree to a new repository without starting a workflow, and return a person's clone."""
    Clone(seed).git("push", "-q", standin.clone_url("bot"), "HEAD:main")
    return standin.clone(folder)


def lines(standin: StandIn, run: dict[str, object], *words: str) -> list[str]:
    return [line for line in standin.log(run).splitlines() if all(word in line for word in words)]


def test_a_change_of_documents_runs_only_their_tests(standin: StandIn, clone: Clone) -> None:
    """For a pull request that changes only documents, CI runs the tests of documents and no evaluation."""
    clone.push("say more", {"docs/more.md": "more\n"}, "words")
    standin.as_("person").pull_request("words", "Say more", "why")
    (run,) = standin.wait(seconds=300)
    assert run["conclusion"] == "success", standin.log(run)
    assert len(lines(standin, run, "Job succeeded")) == 3
    assert lines(standin, run, "Lint and test: docs", "[100%]")
    assert not lines(standin, run, "Evaluate")


def test_a_merge_queue_checks_the_commit_that_main_gets(clone: Clone, tmp_path: Path) -> None:
    """In a merge queue CI runs on the merge group, and main gets exactly the commit that passed."""
    server = Server(tmp_path / "queue", "--repository", "acme/r", "--merge-queue", "squash")
    queued = StandIn(server, "acme/r")
    clone.git("push", "-q", queued.clone_url("bot"), "HEAD:main")
    clone.git("remote", "set-url", "origin", queued.clone_url("person"))
    clone.push("release", RELEASED, "release")
    number = queued.as_("person").pull_request("release", "Release", "why")["number"]
    queued.enqueue(number)
    (entry,) = queued.dequeued(seconds=300)
    group = next(run for run in queued.runs() if run["event"] == "merge_group")
    assert entry["reason"] == "merged", queued.log(group)
    assert len(lines(queued, group, "Job succeeded")) == 3
    clone.git("fetch", "-q", "origin")
    assert clone.git("rev-parse", "origin/main").stdout.strip() == group["head_sha"]
    server.stop()


def test_a_change_of_manifests_is_reported(standin: StandIn, clone: Clone) -> None:
    """A pull request that changes only manifests gets one comment with the changes in the cluster.

    If CI is dispatched on a branch, the branch is compared with main, too.
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


def test_the_bot_may_not_change_peoples_files(standin: StandIn, clone: Clone) -> None:
    """A commit in the bot's name that changes a person's file fails CI and its required check."""
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
    """Of promotions and a rollback at once, each makes one commit or is superseded; the rollback wins."""
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
    messages = clone.git("log", "--format=%B", "HEAD..origin/main").stdout
    assert messages.count("Action: promote") <= 1
    assert messages.count("Why: sound") == messages.count("Action: promote")
    assert messages.count("Why: errors") == messages.count("Action: rollback") == 1
    summaries = [standin.summary(run) for run in found]
    assert sum("Superseded" in text for text in summaries) == 2 - messages.count("Action: promote")
    assert clone.git("rev-list", "--merges", "HEAD..origin/main").stdout == ""
    path = f"{folder_of('production', MODEL)}/release.yaml"
    now = parse(clone.git("show", f"origin/main:{path}").stdout, path)
    assert now.canary is None
    assert now.why_barred(new) == "errors"


def test_a_dispatch_restores_an_earlier_release(standin: StandIn, clone: Clone) -> None:
    """A dispatch restores an earlier release without gate or canary; a second dispatch changes nothing."""
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
def test_a_late_promotion_is_superseded(standin: StandIn) -> None:
    """A promotion of a canary that no longer exists changes nothing and says so, but does not fail."""
    inputs = {"model": MODEL, "key": "0123456789ab", "from": "canary-10"}
    standin.as_("bot").dispatch("promote.yml", inputs)
    (run,) = standin.wait(seconds=300)
    assert run["conclusion"] == "success", standin.log(run)
    assert lines(standin, run, "0123456789ab", "found")
    assert "Superseded" in standin.summary(run)


def test_unmerged_code_is_never_released(standin: StandIn, clone: Clone, tmp_path: Path) -> None:
    """A release or training of a commit that main has not merged fails before it runs the commit's code."""
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
    # The steps' results, because act may lose the last lines of a step's output.
    logs = "".join(standin.log(run) for run in found)
    assert logs.count("Failure - Main Resolve the commit, which main must have merged") == 3, logs
    assert logs.count("Failure - Main Refuse any branch but main") == 2, logs


def test_no_shell_runs_the_texts_of_an_event(standin: StandIn, clone: Clone, tmp_path: Path) -> None:
    """No workflow runs shell code in the name of a branch, a title, a description or an input."""
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
    """A pull request with a conflict starts no workflow until the conflict is resolved."""
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
def test_schedules_of_a_fresh_fork_are_green(standin: StandIn, workflow: str) -> None:
    """If production does not log yet, the weekly training and the daily monitor are green."""
    headers = {"Authorization": f"Bearer {standin.server.tokens['person']}"}
    httpx.post(f"{standin.server.url}/_schedule/{standin.name}/{workflow}", headers=headers)
    (run,) = standin.wait(seconds=300)
    assert run["conclusion"] == "success", standin.log(run)
    assert len(lines(standin, run, "Job succeeded")) == 1


def test_a_fork_that_never_trained_releases_nothing(standin: StandIn, clone: Clone) -> None:
    """Without dvc.lock, a release trains and releases nothing, is green, and says how to begin."""
    repository.write(clone.folder, Repository(name="r", url="https://github.com/o/r.git", registry=UNNAMED))
    clone.git("rm", "-q", "--ignore-unmatch", "dvc.lock")
    commit = clone.commit("begin", {})
    clone.git("push", "-q", standin.clone_url("bot"), "HEAD:main")
    standin.as_("person").dispatch("release.yml", {})
    (run,) = standin.wait(seconds=300)
    assert run["conclusion"] == "success", standin.log(run)
    assert lines(standin, run, "nothing to release", "./loop train")
    assert clone.git("ls-remote", "origin", "main").stdout.split()[0] == commit


@pytest.mark.usefixtures("clone")
def test_an_unknown_model_is_named(standin: StandIn) -> None:
    """A dispatch for a model that is not in params.yaml fails and says so."""
    standin.as_("person").dispatch("train.yml", {"model": "nobody"})
    (run,) = standin.wait(seconds=300)
    assert run["conclusion"] == "failure"
    assert lines(standin, run, "params.yaml has no model 'nobody'")
