"""A candidate is released to an environment only with all of its evidence."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from click.testing import CliRunner
from releases import (
    LOCK,
    MODEL_MD5,
    MONITOR,
    A,
    B,
    C,
    Pulls,
    built,
    canary,
    git,
    monitored,
    save,
    serve,
    track,
)

from loop.cli import cli, main
from loop.core import params
from loop.core.errors import Exit, LoopError, Rejected, Superseded
from loop.core.files import read_json, write_json
from loop.core.git import Change, Git
from loop.core.project import Project
from loop.core.release_state import State
from loop.delivery import bundle, candidate, commit
from loop.delivery.canary import restore
from loop.delivery.commit import Place
from loop.delivery.release import propose, release, watch
from loop.delivery.steps import step_of

MODEL = "card-fraud"


@pytest.fixture
def github(here):
    return Pulls(here)


@pytest.fixture
def found(clone):
    built(clone, B)
    return candidate.read(Project(clone, MODEL))


def test_a_release_is_one_commit_on_main_that_says_all(here, found):
    """A release is one commit: its state says what to serve, and its message repeats that in trailers."""
    done = release(here, found, "dev", "drift of amount")
    state = commit.read(here, here.fetch(), Place(MODEL, "dev"))
    assert state == State(stable=found.track.model_copy(update={"weight": 100}))
    message = here.run("log", "-1", "--format=%an%n%B", done.commit).splitlines()
    assert message[:2] == ["github-actions[bot]", f"card-fraud/dev: release {B}: none → stable"]
    assert message[3:14] == [
        "Action: release",
        "Environment: dev",
        "Model: card-fraud",
        f"Release-Key: {B}",
        f"Model-MD5: {MODEL_MD5}",
        f"Data-MD5: {'2' * 32}",
        f"Training-Commit: {found.track.commit}",
        f"Bento: card_fraud:{B}",
        f"Digest: sha256:{'b' * 64}",
        "Step: stable",
        "Why: drift of amount; holds against the champion",
    ]


def test_the_same_release_again_makes_no_second_commit(here, found):
    """Releasing again makes no second commit, so a workflow that was killed after its push may run again."""
    release(here, found, "dev")
    tip = here.fetch()
    assert release(here, found, "dev").commit is None
    assert here.fetch() == tip


def test_production_takes_a_release_only_by_a_pull_request(here, found):
    """Production takes a release only by a pull request, so a forgotten option cannot release to it."""
    with pytest.raises(LoopError, match="only by pull request"):
        release(here, found, "production")


def test_a_pull_request_proposes_a_canary_without_traffic(clone, here, found, github, production):
    """A proposal is a branch of one commit on main, which CI tests, and a pull request with the evidence."""
    serve(clone, State(stable=track(A, 100)))
    main = here.fetch()
    done, number = propose(here, github, found, "production")
    branch = here.fetch(f"release/{MODEL}/{B}")
    assert (number, here.fetch(), here.run("rev-parse", f"{branch}^")) == (1, main, main)
    assert step_of(commit.read(here, branch, production)) == step_of(done.after) == "canary-0"
    assert github.checked == [branch]
    body = github.open[f"release/{MODEL}/{B}"]["body"]
    for evidence in (
        "| rows | 20000 | 20000 |",
        "| average_precision | 0.7 | 0.6 |",
        "[0.05, 0.15]",
        "| p99_ms | 12.5 |",
        f"sha256:{'b' * 64}",
    ):
        assert evidence in body


def test_a_proposal_mentions_nobody_whom_a_server_named(clone, here, github, production):
    """Errors that the rehearsal quotes, which come from a server, are code in the pull request's body."""
    serve(clone, State(stable=track(A, 100)))
    built(clone, B, rehearse={"candidate": {"key": B, "errors": ["500 @everyone"]}})
    propose(here, github, candidate.read(Project(clone, MODEL)), "production")
    body = github.open[f"release/{MODEL}/{B}"]["body"]
    assert "| errors | ` ['500 @everyone'] ` |" in body


def test_a_proposal_brings_what_watches_the_canary(clone, here, github, production):
    """A proposal for production names the monitor image in commit and body; a release to dev has none."""
    serve(clone, State(stable=track(A, 100)))
    built(clone, B)
    found = candidate.read(Project(clone, MODEL))
    done, _ = propose(here, github, found, "production")
    assert commit.read(here, done.commit, production).monitor == MONITOR
    assert f"Monitor: {MONITOR.split('@')[1]}" in here.run("log", "-1", "--format=%B", done.commit)
    assert f"job | ` {MONITOR} (new) ` |" in github.open[f"release/{MODEL}/{B}"]["body"]
    release(here, found, "dev")
    assert commit.read(here, here.fetch(), Place(MODEL, "dev")).monitor is None


def test_without_an_engine_nothing_watches_in_the_cluster(clone, here, github, production):
    """Without a container engine, the proposal says that neither judge nor monitor run in the cluster."""
    serve(clone, State(stable=track(A, 100)))
    built(clone, B)
    monitored(clone, None)
    done, _ = propose(here, github, candidate.read(Project(clone, MODEL)), "production")
    assert commit.read(here, done.commit, production).monitor is None
    assert "no container engine built it" in github.open[f"release/{MODEL}/{B}"]["body"]


def test_what_watches_production_changes_without_a_release(clone, here, production):
    """A new monitor image makes one commit, and the same image none; dev has no judge or drift job."""
    serve(clone, State(stable=track(A, 100)))
    done = watch(here, production, MONITOR, here.head(), "look at fewer days")
    assert commit.read(here, here.fetch(), production) == State(
        stable=track(A, 100), monitor=MONITOR, monitor_commit=here.head()
    )
    subject, _, body = here.run("log", "-1", "--format=%B", done.commit).partition("\n")
    assert subject == f"card-fraud/production: judge and drift job use image {'e' * 12}"
    assert f"Action: monitor\nEnvironment: production\nModel: card-fraud\nRelease-Key: {A}" in body
    assert f"Monitor: sha256:{'e' * 64}" in body
    assert watch(here, production, MONITOR, here.head()).commit is None
    with pytest.raises(LoopError, match="neither judge nor drift"):
        watch(here, Place(MODEL, "dev"), MONITOR, here.head())


def test_proposing_again_leaves_one_pull_request_and_no_second_commit(here, found, github):
    """Proposing again adds nothing, even if main has changed; CI starts only if it had not started yet."""
    propose(here, github, found, "production")
    github.checked.clear()
    tip = here.fetch(f"release/{MODEL}/{B}")
    release(here, found, "dev")
    done, _ = propose(here, github, found, "production")
    assert done.commit is None
    propose(here, github, found, "production")
    assert here.fetch(f"release/{MODEL}/{B}") == tip
    assert len(github.open) == 1
    assert github.checked == [tip]


def test_a_persons_commit_stays_on_the_branch_of_a_release(clone, here, found, github):
    """A second proposal keeps a person's commit, but replaces a branch that shares no history with main."""
    branch = f"release/{MODEL}/{B}"
    propose(here, github, found, "production")
    git(clone, "fetch", "-q", "origin", branch)
    git(clone, "switch", "-q", "--detach", "FETCH_HEAD")
    (clone / "notes.md").write_text("checked by hand\n")
    git(clone, "add", "notes.md")
    git(clone, "commit", "-q", "-m", "Say what was checked")
    git(clone, "push", "-q", "origin", f"HEAD:refs/heads/{branch}")
    tip = git(clone, "rev-parse", "HEAD")
    assert propose(here, github, found, "production")[0].commit is None
    assert here.fetch(branch) == tip
    alone = git(clone, "commit-tree", "-m", "No parent", "HEAD^{tree}")
    git(clone, "push", "-q", "--force", "origin", f"{alone}:refs/heads/{branch}")
    assert propose(here, github, found, "production")[0].commit == here.fetch(branch)


def test_of_two_proposals_at_once_one_commit_stays(another, here, found, github):
    """Two proposals at once both succeed, name the same pull request, and leave one commit."""
    clones = [Git(another()) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda at: propose(at, github, found, "production"), clones))
    assert [number for _, number in done] == [1, 1]
    tip = here.fetch(f"release/{MODEL}/{B}")
    assert [each.commit for each, _ in done if each.commit] == [tip]


def test_a_proposal_follows_what_main_says_now(clone, here, found, github):
    """If the overlay has changed on main, the branch is built again on top of main."""
    propose(here, github, found, "production")
    serve(clone, State(stable=track(A, 100)))
    done, _ = propose(here, github, found, "production")
    assert here.run("rev-parse", f"{done.commit}^") == here.fetch()
    assert here.fetch(f"release/{MODEL}/{B}") == done.commit


def test_a_merged_release_is_not_proposed_again(clone, here, found, github):
    """A release whose key is in production's overlay is not proposed again."""
    serve(clone, canary(0))
    done, number = propose(here, github, found, "production")
    assert (done.commit, number, github.open) == (None, None, {})


def test_a_barred_release_is_rejected(clone, here, found, github):
    """A blocked release is rejected, and no branch is pushed."""
    barred = [{"key": B, "why": "errors in the canary"}]
    serve(clone, State.model_validate({"stable": track(A, 100), "barred": barred}))
    with pytest.raises(Rejected, match="errors in the canary"):
        propose(here, github, found, "production")
    assert not here.run("ls-remote", "origin", "refs/heads/release/*")


def test_a_canary_with_traffic_is_waited_for(clone, here, found, github):
    """While another canary has traffic, a proposal is superseded."""
    serve(clone, canary(10, A, C))
    with pytest.raises(Superseded, match=f"canary {C} at step canary-10"):
        propose(here, github, found, "production")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"gate": {"verdict": "keep", "reasons": ["no better"]}}, "the gate says keep: no better"),
        ({"gate": {"verdict": "block", "reasons": ["under a floor"]}}, "the gate says block: under a floor"),
        (
            {"rehearse": {"passed": False, "reasons": ["3 failed"], "candidate": None}},
            r"rehearsal failed: 3 failed\n  fix: .* \./loop bento card-fraud && \./loop rehearse card-fraud",
        ),
    ],
)
def test_a_candidate_that_was_refused_is_not_released(clone, changes, said):
    """A candidate that gate or rehearsal rejected is not released."""
    built(clone, B, **changes)
    with pytest.raises(Rejected, match=said):
        candidate.read(Project(clone, MODEL))


@pytest.mark.parametrize("record", ["gate", "register", "bento", "rehearse", "image"])
def test_a_missing_record_names_the_command_to_run(clone, record):
    """A release without one of its records is refused, and the error names the command that makes it."""
    built(clone, B)
    (clone / "build" / "card_fraud" / f"{record}.json").unlink()
    with pytest.raises(LoopError, match=f"fix: ./loop {record} card-fraud"):
        candidate.read(Project(clone, MODEL))


def test_a_missing_image_of_judge_and_drift_names_the_command_to_run(clone, monkeypatch):
    """A release to production needs the record of the monitor image; the error names the command to run."""
    built(clone, B)
    (clone / "build" / "monitor" / "image.json").unlink()
    with pytest.raises(LoopError, match=r"fix: \./loop monitor-image"):
        candidate.read(Project(clone, MODEL))
    monkeypatch.chdir(clone)
    words = ["release", MODEL, "--environment", "dev", "--environment"]
    with pytest.raises(LoopError, match=r"fix: \./loop monitor-image"):
        CliRunner().invoke(cli, [*words, "production"], catch_exceptions=False)
    done = CliRunner().invoke(cli, [*words, "staging"], catch_exceptions=False)
    assert done.output.count(": commit ") == 2  # neither dev nor staging has a judge or drift job


@pytest.mark.parametrize("field", ["image", "kind"])
def test_an_incomplete_record_names_the_field_and_the_command_to_run(clone, field):
    """Release and bundle name the missing field of a record, and the command that writes the record."""
    built(clone, B)
    path = clone / "build" / "monitor" / "image.json"
    write_json(path, {name: value for name, value in read_json(path).items() if name != field})
    for reads in (
        lambda: candidate.read(Project(clone, MODEL)),
        lambda: bundle.pack(Project(clone, "monitor")),
    ):
        with pytest.raises(LoopError, match=rf"{field}\n  Field required[\s\S]*fix: \./loop monitor-image"):
            reads()


@pytest.mark.parametrize(("record", "fix"), [("card_fraud", " card-fraud"), ("monitor", "$")])
def test_an_image_that_was_built_but_not_pushed_is_not_released(clone, record, fix):
    """A release must name an image that a cluster can pull, so an image that was not pushed is refused."""
    built(clone, B)
    path = clone / "build" / record / "image.json"
    write_json(path, {**read_json(path), "pushed": False})
    with pytest.raises(LoopError, match=rf"built but not pushed\n  fix: \./loop push-image{fix}"):
        candidate.read(Project(clone, MODEL))


def test_records_about_another_model_are_refused(clone):
    """A record must belong to the model that dvc.lock records, and to the release that was built."""
    earlier = {"verdict": "block", "challenger": {"metrics": {}, "model_md5": "9" * 32}}
    built(clone, B, gate=earlier)
    with pytest.raises(LoopError, match=r"gate\.json belongs to 9999[\s\S]*fix: \./loop gate"):
        candidate.read(Project(clone, MODEL))
    built(clone, B, register={"model_md5": "9" * 32})
    with pytest.raises(LoopError, match=r"register\.json belongs to 9999"):
        candidate.read(Project(clone, MODEL))
    built(clone, B, bento={"model_md5": "9" * 32})
    with pytest.raises(LoopError, match=r"bento\.json belongs to 9999[\s\S]*fix: \./loop bento"):
        candidate.read(Project(clone, MODEL))
    built(clone, B, image={"key": A})
    with pytest.raises(LoopError, match=rf"image\.json belongs to {A}[\s\S]*fix: \./loop image"):
        candidate.read(Project(clone, MODEL))
    built(clone, B, rehearse={"candidate": {"key": A}})
    with pytest.raises(LoopError, match=rf"rehearse\.json belongs to {A}, the candidate is {B}"):
        candidate.read(Project(clone, MODEL))


def test_a_model_that_git_does_not_have_is_not_released(clone, here):
    """A release is refused unless a commit on origin's main records its model."""
    built(clone, B)
    (clone / "dvc.lock").write_text(LOCK + "  \n# trained again\n")
    git(clone, "commit", "-q", "-m", "not pushed", "dvc.lock")
    found = candidate.read(Project(clone, MODEL))
    with pytest.raises(LoopError, match="is not on origin's main"):
        release(here, found, "dev")
    (clone / "dvc.lock").write_text(LOCK.replace(MODEL_MD5, "8" * 31 + "a"))
    with pytest.raises(LoopError, match="does not record the model in the work tree"):
        candidate.read(Project(clone, MODEL))


def test_a_release_enters_no_environment_that_serves_on_another_device(clone, here):
    """The error names both devices, and the command that builds a release for the environment's device."""
    params.edit(clone, {"models.card_fraud.serve": {"device": {"production": "cuda"}}})
    built(clone, B, bento={"device": "cuda"})
    found = candidate.read(Project(clone, MODEL))
    with pytest.raises(
        LoopError, match=r"built for cuda, but dev serves on cpu .*\n  fix: \./loop bento card"
    ):
        release(here, found, "dev")
    assert propose(here, Pulls(here), found, "production")[0].after.stable.device == "cuda"


def test_an_environment_without_an_overlay_is_named(here, found):
    """The error for an environment without an overlay names the missing folder."""
    with pytest.raises(LoopError, match="fix: push kustomize/overlays/moon/card-fraud"):
        release(here, found, "moon")


def test_a_broken_overlay_stops_a_release(clone, here, found):
    """A person's invalid edit of release.yaml on main stops the release, and is not overwritten."""
    save(
        clone,
        {"kustomize/overlays/dev/card-fraud/release/release.yaml": "kind: Release\nspec: {extra: 1}\n"},
    )
    with pytest.raises(LoopError, match=r"dev/card-fraud/release/release\.yaml: line 2: spec\.extra"):
        release(here, found, "dev")


@pytest.fixture
def at(clone):
    """Return `at(commit, key)`, which builds a candidate at a commit as a workflow does."""

    def built_at(commit, key):
        git(clone, "switch", "-q", "--detach", commit)
        built(clone, key)
        return candidate.read(Project(clone, MODEL))

    return built_at


@pytest.fixture
def commits(clone):
    """Push three commits to main, and return them with the oldest first."""
    made = []
    for name in "123":
        save(clone, {"src/x.py": name})
        made.append(git(clone, "rev-parse", "HEAD"))
    return made


def serving(clone, state, environment="production"):
    """Push an environment's state on top of main, whatever the clone has checked out."""
    git(clone, "fetch", "-q")
    git(clone, "switch", "-q", "--detach", "origin/main")
    serve(clone, state, environment)


def test_an_older_release_does_not_replace_a_newer_one(
    clone, here, at, commits, production, *, tmp_path, monkeypatch
):
    """An older release ends with code 5 in each environment, names the served commit, and changes nothing."""
    older, _, newer = commits
    for environment in ("dev", "staging"):
        release(here, at(newer, C), environment)
    serving(clone, State(stable=track(A, 100)))
    watch(here, production, MONITOR.replace("e" * 64, "f" * 64), newer)
    tip = here.fetch()
    at(older, B)
    monkeypatch.chdir(clone)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary"))
    for command in (
        ["release", MODEL, "--environment", "dev", "--environment", "staging"],
        ["monitor-release", MODEL, "--environment", "production"],
    ):
        monkeypatch.setattr("sys.argv", ["loop", *command])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == Exit.SUPERSEDED
    summary = (tmp_path / "summary").read_text()
    for place in ("dev", "staging"):
        assert f"{MODEL}/{place}: {older[:12]} is superseded by {newer[:12]}" in summary
    assert here.fetch() == tip


def test_which_release_is_newer_is_decided_at_the_push(another, here, at, commits, monkeypatch):
    """A newer release that lands between reading main and pushing to it is not replaced."""
    older, _, newer = commits
    fast, slow = at(newer, C), at(older, B)
    push, others = Git.push, [Git(another())]

    def overtaken(self, *args, **options):
        if others:
            release(others.pop(), fast, "dev")
        return push(self, *args, **options)

    monkeypatch.setattr(Git, "push", overtaken)
    with pytest.raises(Superseded, match=f"superseded by {newer[:12]}"):
        release(here, slow, "dev")
    assert commit.read(here, here.fetch(), Place(MODEL, "dev")).stable.key == C


def test_a_newer_release_replaces_an_older_one(here, at, commits):
    """A release replaces one of an earlier commit, or one of the same commit with another key."""
    older, _, newer = commits
    for found in (at(older, A), at(older, B), at(newer, C)):
        assert release(here, found, "dev").commit


def test_a_proposal_goes_only_forward(clone, here, at, commits, github):
    """A proposal must be newer than stable and than a canary without traffic; a newer monitor image stays."""
    older, between, newer = commits
    stable, new = (track(key).model_copy(update={"commit": by}) for key, by in ((A, between), (C, newer)))
    with_canary = State(stable=stable.model_copy(update={"weight": 100}), canary=new)
    for served, proposed in (
        (with_canary, between),
        (with_canary.model_copy(update={"canary": None}), older),
    ):
        serving(clone, served)
        with pytest.raises(Superseded, match=f"{proposed[:12]} is superseded by"):
            propose(here, github, at(proposed, B), "production")
    watching = {"canary": None, "monitor": MONITOR.replace("e" * 64, "f" * 64), "monitor_commit": newer}
    for built_from in (newer, None):
        served = with_canary.model_copy(update={**watching, "monitor_commit": built_from})
        serving(clone, served)
        done, _ = propose(here, github, at(between, B), "production")
        kept = commit.read(here, done.commit, Place(MODEL, "production"))
        assert (kept.monitor == served.monitor) == bool(built_from)
        assert kept.monitor_commit == (built_from or between)


def test_a_monitor_image_goes_only_forward_from_a_state_of_an_earlier_version(
    clone, here, commits, production
):
    """A state without `monitorCommit` has the image that came with stable, so an older one is refused."""
    older, between, newer = commits
    stable = track(A, 100).model_copy(update={"commit": between})
    serving(clone, State(stable=stable, monitor=MONITOR.replace("e" * 64, "f" * 64)))
    with pytest.raises(Superseded, match=f"{older[:12]} is superseded by {between[:12]}"):
        watch(here, production, MONITOR, older)
    assert watch(here, production, MONITOR, newer).commit


def test_a_release_goes_on_after_a_rollback(clone, here, at, commits):
    """After a rollback, a later commit can be released, but a blocked release cannot."""
    older, between, newer = commits
    dev = Place(MODEL, "dev")
    for found in (at(older, A), at(between, B)):
        release(here, found, "dev")
    restore(here, dev, A, "hurts")
    with pytest.raises(Rejected, match="hurts"):
        release(here, at(newer, B), "dev")
    release(here, at(newer, C), "dev")
    assert commit.read(here, here.fetch(), dev).stable.key == C


def test_what_main_has_lost_is_replaced(clone, here, at, commits):
    """If a forced push has removed the served commit from main, it is replaced, and the message says so."""
    older, _, newer = commits
    lost = here.commit_on(older, Change({"src/x.py": "lost"}, "lost"))
    serving(clone, State(stable=track(A, 100).model_copy(update={"commit": lost})), "dev")
    done = release(here, at(newer, C), "dev")
    note = f"replaces a release of {lost[:12]}, a commit that main's history lacks"
    assert f"Why: {note}; holds against the champion" in here.run("log", "-1", "--format=%B", done.commit)
    assert done.notes == (note,)
