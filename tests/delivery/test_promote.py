"""Each step of a canary is one commit, which lands only if main still has the state that it expects."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from shutil import which

import pytest
from releases import MODEL, A, B, C, canary, git, save, serve, track

from loop.core import params
from loop.core.errors import Exit, LoopError, Rejected, Superseded
from loop.core.git import Git
from loop.core.params import edit
from loop.core.release_state import State, release
from loop.delivery import commit
from loop.delivery.canary import promote, restore, rollback
from loop.delivery.commit import Place
from loop.delivery.steps import promoted, released, step_of


def history(git, place):
    return commit.history(git, place, git.fetch())


def attempt(do):
    """Return the result of a command: its commit, or the reason why there is none."""
    try:
        return do().commit
    except (Superseded, Rejected) as refused:
        return refused


def test_a_promotion_is_a_commit_by_the_bot(clone, here, production):
    """The bot's commit names both steps; the weights and the number of pods come from params.yaml."""
    serve(clone, canary(10))
    done = promote(here, production, B, "canary-10", "verdict: sound")
    assert here.run("log", "-1", "--format=%an|%s", done.commit) == (
        f"github-actions[bot]|card-fraud/production: promote {B}: canary-10 → canary-50"
    )
    assert "Why: verdict: sound" in here.run("log", "-1", "--format=%B", done.commit)
    now = commit.read(here, here.fetch(), production)
    assert now == promoted(canary(10), B, "canary-10", params.load(clone, MODEL).canary)
    assert (now.stable.weight, now.canary.weight) == (50, 50)


def test_every_step_says_what_it_did(clone, here, production):
    """Each commit's subject says what changed, so the log of an overlay is its history."""
    serve(clone, canary(0))
    for step in ("canary-0", "canary-10", "canary-50", "canary-100", "handover", "return"):
        promote(here, production, B, step)
    subjects = [entry.subject.removeprefix("card-fraud/production: ") for entry in history(here, production)]
    assert subjects[:6] == [
        f"promote {B}: {step}"
        for step in (
            "return → stable",
            "handover → return",
            "canary-100 → handover",
            "canary-50 → canary-100",
            "canary-10 → canary-50",
            "canary-0 → canary-10",
        )
    ]


def test_the_same_promotion_again_is_superseded(clone, here, production):
    """A repeated promotion makes no second commit, because the step that it expects is over."""
    serve(clone, canary(10))
    first = promote(here, production, B, "canary-10").commit
    with pytest.raises(Superseded, match="expected canary"):
        promote(here, production, B, "canary-10")
    assert here.fetch() == first


def test_the_work_tree_is_neither_read_nor_written(clone, here, production):
    """Only the remote's commit counts, even if the clone is outdated or has edits."""
    serve(clone, canary(10))
    path = clone / "kustomize/overlays/production/card-fraud/release/release.yaml"
    path.write_text("edited")
    promote(here, production, B, "canary-10")
    assert path.read_text() == "edited"


def test_of_two_promotions_at_once_one_wins(clone, another, here, production):
    """Of two promotions at once, one makes a commit, and the other ends as superseded."""
    serve(clone, canary(10))
    begin = here.fetch()
    clones = [Git(another()) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda at: attempt(lambda: promote(at, production, B, "canary-10")), clones))
    assert sorted(type(outcome).__name__ for outcome in done) == ["Superseded", "str"]
    assert here.run("rev-list", "--count", f"{begin}..{here.fetch()}") == "1"


def test_a_rollback_waits_for_nobody(clone, another, here, production):
    """In whichever order a rollback and a promotion land, the canary is removed and blocked."""
    serve(clone, canary(10))
    one, two = Git(another()), Git(another())
    with ThreadPoolExecutor(2) as pool:
        promoting = pool.submit(attempt, lambda: promote(one, production, B, "canary-10"))
        rolling_back = pool.submit(attempt, lambda: rollback(two, production, "errors", B))
    state = commit.read(here, here.fetch(), production)
    assert state.stable == track(A, 100)
    assert state.canary is None
    assert state.why_barred(B) == "errors"
    assert isinstance(rolling_back.result(), str)
    assert isinstance(promoting.result(), str | Superseded)


@pytest.mark.slow
def test_ten_at_once_leave_a_straight_history(clone, another, here, production):
    """Ten commands at once, in two environments from three machines, leave a linear and valid history."""
    serve(clone, canary(10))
    serve(clone, canary(50), "staging")
    begin = here.fetch()
    machines = [Git(another()) for _ in range(3)]
    staging = Place("card-fraud", "staging")

    def brings(at: Git, place: Place):
        return commit.land(
            at, "release", place, lambda now: released(now.state, track(C), canary=True), "new"
        )

    doing = [
        lambda at: promote(at, production, B, "canary-10"),
        lambda at: promote(at, production, B, "canary-50"),
        lambda at: promote(at, staging, B, "canary-50"),
        lambda at: promote(at, staging, B, "canary-50"),
        lambda at: rollback(at, production, "errors", B),
        lambda at: rollback(at, staging, "errors", B),
        lambda at: rollback(at, staging, "errors", B),
        lambda at: brings(at, production),
        lambda at: brings(at, staging),
        lambda at: brings(at, production),
    ]
    with ThreadPoolExecutor(10) as pool:
        tasks = [pool.submit(attempt, lambda do=do, at=machines[n % 3]: do(at)) for n, do in enumerate(doing)]
    commits = {task.result() for task in tasks if isinstance(task.result(), str)}
    landed = here.run("rev-list", f"{begin}..{here.fetch()}").split()
    assert set(landed) == commits
    assert not here.run("rev-list", "--merges", f"{begin}..{here.fetch()}")
    for place in (production, staging):
        assert commit.read(here, here.fetch(), place).why_barred(B) == "errors"
        for at in landed:
            commit.read(here, at, place)  # raises if weights or keys are inconsistent


def test_twenty_promotions_and_rollbacks_at_once(clone, another, here, production):
    """Twenty commands at once make at most one commit each in a linear history, and undo no rollback."""
    serve(clone, canary(10))
    before = here.fetch()
    machines = [Git(another()) for _ in range(4)]

    def act(number):
        machine, step = machines[number % 4], ("canary-10", "canary-50")[number % 2]
        if number % 10 == 7:  # two of the twenty
            return attempt(lambda: rollback(machine, production, f"errors {number}", B))
        return attempt(lambda: promote(machine, production, B, step))

    with ThreadPoolExecutor(8) as pool:
        ended = list(pool.map(act, range(20)))
    tip = here.fetch()
    made = [each for each in ended if isinstance(each, str)]
    listed = here.run("rev-list", f"{before}..{tip}").splitlines()
    assert sorted(listed) == sorted(made)
    assert not here.run("rev-list", "--merges", f"{before}..{tip}")
    assert all(each is None or isinstance(each, (str, Superseded, Rejected)) for each in ended)
    assert f": rollback {B}: canary-" in here.run("log", "-1", "--format=%s", tip)
    now = commit.read(here, tip, production)
    assert now.canary is None
    assert [barred.key for barred in now.barred] == [B]


def test_a_branch_that_was_forced_back_is_read_anew(clone, another, here, production):
    """After a force-push of main, a machine promotes from main's new state, not from the old one."""
    serve(clone, canary(10))
    machine, old = Git(another()), here.fetch()
    promote(machine, production, B, "canary-10")
    here.push(old, "main", replaces=machine.fetch())
    assert isinstance(attempt(lambda: promote(machine, production, B, "canary-50")), Superseded)
    done = promote(machine, production, B, "canary-10")
    assert here.run("rev-parse", f"{here.fetch()}^") == old
    assert step_of(done.after) == "canary-50"


def test_rolling_back_what_is_rolled_back_makes_no_commit(clone, here, production):
    """Rolling back twice, or without a canary, makes no second commit."""
    serve(clone, canary(10))
    tip = rollback(here, production, "errors").commit
    assert rollback(here, production, "errors").commit is None
    assert rollback(here, production, "errors", B).commit is None
    assert here.fetch() == tip


def test_a_release_that_was_promoted_is_rolled_back_to_the_one_before(clone, here, production):
    """One commit restores the earlier release's image and model, and names the replaced release and why."""
    for state in (State(stable=track(A, 100)), canary(100), State(stable=track(B, 100))):
        serve(clone, state)
    done = restore(here, production, A, "refuses good customers", B)
    assert done.after.stable == track(A, 100)
    assert commit.read(here, here.fetch(), production) == done.after
    entry, *_ = history(here, production)
    assert entry.subject == f"card-fraud/production: rollback {B} to {A}"
    assert (entry.action, entry.key, entry.why) == ("rollback", B, "refuses good customers")
    assert restore(here, production, A, "again", B).commit is None


def test_the_weights_are_those_that_main_has(clone, another, here, production):
    """The weights come from params.yaml on main, not from an edited or outdated clone."""
    serve(clone, canary(10))
    edit(clone, {"models.card_fraud.canary.weights": [10, 90, 100]})
    other = another()
    edit(other, {"models.card_fraud.canary.weights": [10, 30, 100]})
    save(other, {})
    assert step_of(promote(here, production, B, "canary-10").after) == "canary-30"


@pytest.mark.parametrize(
    "unread",
    [
        None,
        "<<<<<<< a conflict\n",
        "apiVersion: loop/v0\nkind: Deployed\nstable: {}\n",
        release(State(stable=track(A, 100))).replace("image:", "digest:"),
    ],
)
def test_an_unreadable_state_in_history_is_skipped(clone, here, production, unread):
    """A deleted, broken or foreign state in the history is skipped and named; unknown fields are ignored."""
    path = "kustomize/overlays/production/card-fraud/release/release.yaml"
    older = release(State(stable=track(A, 100))).replace("  barred:", "  region: moon\n  barred:")
    save(clone, {path: older.replace("modelMd5:", "owner: person\n    modelMd5:")})
    if unread is None:
        git(clone, "rm", "-q", path)
    save(clone, {path: unread} if unread else {})
    skipped = git(clone, "rev-parse", "HEAD")
    serve(clone, State(stable=track(B, 100)))
    done = restore(here, production, A, "hurts")
    assert done.after.stable == track(A, 100)
    assert f"skipped the release state of {skipped[:12]}: " in done.notes[0]
    assert len(history(here, production)) == 5
    with pytest.raises(LoopError, match=f"never served {C}"):
        restore(here, production, C, "by mistake")


def test_what_was_served_is_read_from_main_at_the_push(clone, another, here, production, monkeypatch):
    """If main changes before the push, the restored release has the image that main's new history names."""
    for key in (A, B):
        serve(clone, State(stable=track(key, 100)))
    rebuilt = track(A, 100).model_copy(update={"image": track(C).image})
    push, others = Git.push, [another()]

    def overtaken(self, *args, **options):
        if others:
            other = others.pop()
            serve(other, State(stable=rebuilt))
            serve(other, State(stable=track(B, 100)))
        return push(self, *args, **options)

    monkeypatch.setattr(Git, "push", overtaken)
    assert restore(here, production, A, "hurts").after.stable == rebuilt


def test_a_release_that_stable_never_served_does_not_come_back(clone, here, production):
    """A canary that was never stable cannot be restored; the error names `./loop history`."""
    serve(clone, canary(50))
    rollback(here, production, "errors")
    with pytest.raises(LoopError, match=f"stable has never served {B}") as refused:
        restore(here, production, B, "by mistake")
    assert "./loop history" in refused.value.fix


def test_the_history_tells_who_did_what_and_why(clone, here, production):
    """A rollback's entry has its reason, and a person's commit is listed with its author."""
    serve(clone, canary(10))
    rollback(here, production, "error rate 12 %")
    bot, person, *_ = history(here, production)
    assert (bot.action, bot.key, bot.step, bot.why) == ("rollback", B, "stable", "error rate 12 %")
    assert (person.author, person.action) == ("person", "")


def test_killed_before_its_push_a_command_has_changed_nothing(clone, tmp_path, repository):
    """A command that is killed before its push has changed nothing, and works when it is called again."""
    serve(clone, canary(10))
    killer = tmp_path / "bin" / "git"
    killer.parent.mkdir()
    kill = 'case " $* " in *" push "*) kill -9 $PPID; exit 1 ;; esac'
    killer.write_text(f'#!/bin/sh\n{kill}\nexec {which("git")} "$@"\n')
    killer.chmod(0o755)
    arguments = [
        "promote",
        "card-fraud",
        "--environment",
        "production",
        "--key",
        B,
        "--from",
        "canary-10",
    ]

    def code(path: str) -> int:
        env = {**os.environ, "PYTHONPATH": str(repository / "src"), "PATH": path}
        return subprocess.run(
            [sys.executable, "-m", "loop", *arguments], cwd=clone, env=env, check=False
        ).returncode

    before = git(clone, "ls-remote", "origin")
    assert code(f"{killer.parent}:{os.environ['PATH']}") == -9
    assert git(clone, "ls-remote", "origin") == before
    assert [code(os.environ["PATH"]), code(os.environ["PATH"])] == [Exit.OK, Exit.SUPERSEDED]
