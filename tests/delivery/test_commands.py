"""Commands print what people need, and set outputs and summaries for workflows."""

import pytest
from click.testing import CliRunner
from releases import MONITOR, A, B, built, canary, monitored, serve, track

from loop.cli.delivery import history, monitor_release, promote, release, rollback
from loop.core.errors import LoopError, Superseded
from loop.core.github import GitHub
from loop.core.release_state import State


@pytest.fixture
def run(clone, monkeypatch):
    """Return a function that runs a command in the clone and returns its output."""
    monkeypatch.chdir(clone)

    def running(command, *arguments):
        return CliRunner().invoke(command, ["card-fraud", *arguments], catch_exceptions=False).output

    return running


@pytest.fixture
def workflow(tmp_path, monkeypatch):
    """Set a workflow's files for outputs and summary, and return their folder."""
    for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"):
        monkeypatch.setenv(name, str(tmp_path / name))
    return tmp_path


def test_a_promotion_tells_its_workflow_where_the_canary_is(clone, here, run, workflow):
    """A promotion sets the outputs commit, step and key, and writes a summary for people."""
    serve(clone, canary(10))
    said = run(promote, "--environment", "production", "--key", B, "--from", "canary-10")
    tip = here.fetch()
    assert said == f"card-fraud/production: commit {tip[:12]}; canary {B} at step canary-50\n"
    assert (workflow / "GITHUB_OUTPUT").read_text() == f"commit={tip}\nstep=canary-50\nkey={B}\n"
    assert said.strip() in (workflow / "GITHUB_STEP_SUMMARY").read_text()


def test_a_person_promotes_the_canary_that_is_there(clone, here, run):
    """Without --key, `promote` takes main's canary and prints its key; without a canary it is superseded."""
    at = ("--environment", "production", "--from", "canary-10")
    serve(clone, State(stable=track(A, 100)))
    with pytest.raises(Superseded, match=f"expected a canary at step canary-10, found no canary; .* {A}"):
        run(promote, *at)
    serve(clone, canary(10))
    assert f"canary {B} at step canary-50" in run(promote, *at)


def test_a_release_goes_to_several_environments(clone, here, run):
    """A release to several environments makes one commit in each, and the second time none."""
    built(clone, B)
    to = ("--environment", "dev", "--environment", "staging")
    assert run(release, *to).count("commit") == 2
    assert run(release, *to).count("nothing to do") == 2


def test_a_proposal_names_its_pull_request(clone, run, workflow, monkeypatch):
    """A proposal sets an output with the pull request's number, for the workflow's next step."""
    serve(clone, State(stable=track(A, 100)))
    built(clone, B)
    for name in ("GITHUB_REPOSITORY", "GITHUB_TOKEN"):
        monkeypatch.setenv(name, "team/loop")
    monkeypatch.setattr(GitHub, "pull_request", lambda *_: {"number": 7})
    ours = {"full_name": "team/loop"}
    started = {"head_repository": ours, "repository": ours}
    monkeypatch.setattr(GitHub, "runs", lambda *_, **__: [started])
    said = run(release, "--environment", "production", "--pull-request")
    assert said.endswith(f"canary {B} at step canary-0; pull request 7\n")
    assert "pull_request=7\n" in (workflow / "GITHUB_OUTPUT").read_text()


def test_a_rollback_without_a_canary_says_what_brings_an_earlier_release_back(clone, run):
    """Without a canary, the error of `rollback` names `--to`, which brings the earlier release back."""
    serve(clone, State(stable=track(A, 100)))
    serve(clone, State(stable=track(B, 100)))
    options = ("--environment", "production", "--why", "hurts")
    assert "--to KEY brings an earlier release back" in run(rollback, *options)
    assert f"no canary; stable serves {A}" in run(rollback, *options, "--to", A)


def test_the_image_that_watches_is_the_one_that_was_built(clone, here, run):
    """The monitor image is written into the state; if no engine has built one, the state is unchanged."""
    serve(clone, State(stable=track(A, 100)))
    monitored(clone, None)
    before = here.fetch()
    assert "no engine built an image" in run(monitor_release, "--environment", "production")
    assert here.fetch() == before
    monitored(clone)
    assert f"no canary; stable serves {A}" in run(monitor_release, "--environment", "production")
    assert MONITOR in here.read(here.fetch(), "kustomize/overlays/production/card-fraud/release/release.yaml")


def test_a_dropped_model_still_has_its_history(clone, run):
    """Git knows what the model was. A name that Git does not know either is an error."""
    serve(clone, canary(10))
    run(rollback, "--environment", "production", "--why", "errors")
    (clone / "params.yaml").write_text("models: {other: {}}\n")
    assert "rollback" in run(history, "--environment", "production")
    with pytest.raises(LoopError, match="has no model 'nobody'; it has other"):
        CliRunner().invoke(history, ["nobody", "--environment", "production"], catch_exceptions=False)


def test_the_history_is_a_table(clone, run):
    """The history lists the action, step, release and reason of each commit."""
    serve(clone, canary(10))
    run(rollback, "--environment", "production", "--why", "error rate 12 % [/]")
    (row,) = [line for line in run(history, "--environment", "production").splitlines() if "rollback" in line]
    assert [cell.strip() for cell in row.split("│")][2:7] == [
        "rollback",
        "stable",
        B,
        "b" * 8,
        "error rate 12 % [/]",
    ]
