"""One drift starts one retraining, even beside other runs, or if two monitors dispatch at once."""

import re
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from shop import BEGIN, FakeGitHub, Production, retrain

from loop.core import params
from loop.core.git import BOT, Change, Git
from loop.core.github import GitHub
from loop.monitoring import dispatch as dispatching
from loop.monitoring.dispatch import Wish, dispatch, retrainings

DAY = timedelta(days=1)
WISH = Wish("shop", BEGIN, "drift 0.40 >= 0.3 (amount)")
ENDED = {"status": "completed", "conclusion": "success"}


@pytest.fixture
def ask(production: Production, github: FakeGitHub) -> Callable[..., dict[str, Any]]:
    """Return a function that asks for a retraining as the monitor does."""

    def asked(root: Path = production.root) -> dict[str, Any]:
        return dispatch(Git(root), GitHub.of_environment(), WISH, params.Monitor(), datetime.now(UTC))

    return asked


def test_a_stranger_cannot_stop_it(ask: Callable[..., dict[str, Any]], github: FakeGitHub) -> None:
    """Runs of a fork's pull request count neither for cooldown nor for budget, whatever their title.

    Even a page full of them does not hide a run of ours.
    """
    for age in range(4):
        github.forge("train.yml", "Train shop: drift 0.5", age=age * DAY, **ENDED)
    assert ask()["dispatched"]
    for _ in range(120):
        github.forge("train.yml", "Train shop: drift 0.5", status="queued")
    assert ask()["why"] == "run 5 is queued"


@pytest.mark.parametrize(
    ("title", "fields", "why"),
    [
        ("Train shop: by hand", {}, "run 1 is queued"),
        ("Train shop: by hand", {"status": None}, "run 1 is None"),
        ("Train every model: weekly", {"event": "schedule", **ENDED}, "within the cooldown of 24 h"),
        ("Train shop: drift 0.4", {**ENDED, "age": 2 * DAY}, ""),
        ("Train shop-2: drift 0.4", ENDED, ""),
        ("Train shop: drift 0.4", {"status": "completed", "conclusion": "cancelled"}, ""),
        ("Retraining of shop", ENDED, "because its title names none: 'Retraining of shop'"),
        (None, {"status": "in_progress"}, "counts for every model, because its title names none: ''"),
    ],
)
def test_which_runs_stand_against_it(
    ask: Callable[..., dict[str, Any]], github: FakeGitHub, title: str, fields: dict[str, Any], why: str
) -> None:
    """An open or recent run blocks a dispatch if it is for this model, every model, or an unknown one."""
    github.add("train.yml", title, **fields)
    found = ask()
    assert found["dispatched"] is not bool(why)
    assert why in found["why"]


def test_two_at_once_come_to_one(
    ask: Callable[..., dict[str, Any]], github: FakeGitHub, production: Production, tmp_path: Path
) -> None:
    """If drift.yml and the CronJob dispatch at the same time, the later run is cancelled.

    The output says so, and the cancelled run counts neither for the cooldown nor for the budget.
    """
    other = tmp_path / "other"
    subprocess.run(["git", "clone", "-q", production.root.parent / "origin.git", other], check=True)
    github.on_dispatch = threading.Barrier(2, timeout=60).wait
    with ThreadPoolExecutor() as pool:
        one, two = sorted(pool.map(ask, (production.root, other)), key=lambda found: not found["dispatched"])
    assert (one["dispatched"], one["why"], one["url"][-7:]) == (True, WISH.reason, "/runs/1")
    assert (two["dispatched"], two["url"][-7:]) == (False, "/runs/2")
    assert two["why"] == "run 1 is queued; run 2, dispatched at the same time, is cancelled"
    assert [github.run(number)["conclusion"] for number in (1, 2)] == [None, "cancelled"]
    github.run(1).update(status="completed", conclusion="cancelled")
    github.on_dispatch = lambda: None
    assert ask()["dispatched"]


MESSAGE = "shop: retrain\n\nAction: retrain\nModel: shop\nWhy: drift 0.4\n"
THEIRS = {
    f"GIT_{who}_{what}": "t@example.test" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
}
FORGED = {
    "a squash that quotes ours": (THEIRS, {"dvc.lock": "1"}, MESSAGE),
    "a rebase of a commit with our author": (
        {**BOT, "GIT_COMMITTER_EMAIL": "noreply@github.com"}, {"dvc.lock": "1"}, MESSAGE
    ),
    "a merge of a branch with our author and committer": (BOT, {"dvc.lock": "1"}, MESSAGE),
    "no dvc.lock": (BOT, {"data/shop/metrics.json": "1"}, MESSAGE),
    "more than a retraining writes": (BOT, {"dvc.lock": "1", "src/a.py": "1"}, MESSAGE),
    "another model's": (BOT, {"dvc.lock": "1"}, MESSAGE.replace("shop\nWhy", "shop-2\nWhy")),
    "a clock of 1970": ({**THEIRS, "GIT_COMMITTER_DATE": "1970-01-02T00:00:00Z"}, {"a.md": "1"}, "old"),
    "bytes that are no text": (BOT, {"dvc.lock": "1"}, MESSAGE.replace("drift", "\udcff\u2028\x0b")),
    "our trailers as a body": (BOT, {"dvc.lock": "1"}, f"{MESSAGE}\nbut it is no trailer\n"),
}  # fmt: skip


@pytest.mark.parametrize("how", FORGED)
def test_nobody_elses_commit_spends_the_budget(production: Production, how: str) -> None:
    """Only retrainings by `land` spend the budget; a merged commit neither counts nor hides them."""
    git, (who, files, message) = Git(production.root), FORGED[how]
    for _ in range(3):
        retrain(production.root, "drift 0.4")
    main = git.fetch()
    made = git.commit_on(main, Change(files, how))
    tree = f"{made}^{{tree}}"
    made = git.run("commit-tree", tree, "-p", main, "-m", message, env=who)
    if how.startswith("a merge"):
        made = git.run("commit-tree", tree, "-p", main, "-p", made, "-m", message, env=THEIRS)
    assert retrainings(git, "shop", made, datetime.now(UTC) - 30 * DAY) == 3


def test_the_two_timers_are_apart(repository: Path) -> None:
    """The drift timers are half an hour apart, so one finds the other's run; the weekly one is later."""
    texts = {
        "drift": ".github/workflows/drift.yml",
        "cluster": "kustomize/components/drift/cronjob.yaml",
        "weekly": ".github/workflows/train.yml",
    }
    crons = {
        name: re.search(r"(\d+) (\d+) \* \* [*1]", (repository / text).read_text())
        for name, text in texts.items()
    }
    minutes = {name: 60 * int(cron[2]) + int(cron[1]) for name, cron in crons.items()}
    assert abs(minutes["drift"] - minutes["cluster"]) >= 30
    assert max(minutes["drift"], minutes["cluster"]) < minutes["weekly"]


def test_it_waits_until_its_run_is_listed(
    ask: Callable[..., dict[str, Any]], github: FakeGitHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GitHub lists runs some seconds late, so the monitor waits until its own run is listed."""
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 2:
            github.listing = True

    def others() -> None:
        github.add("train.yml", "Train shop: drift 0.4")
        github.listing = False

    monkeypatch.setattr(dispatching.time, "sleep", sleep)
    github.on_dispatch = others
    assert ask()["why"].startswith("run 1 is queued; run 2")
    assert slept == [dispatching.PAUSE] * 2


def test_where_the_second_cannot_be_cancelled_it_says_so(
    ask: Callable[..., dict[str, Any]], github: FakeGitHub
) -> None:
    """If the check for a second run fails, the dispatch still counts, and the output says so."""
    github.on_dispatch = lambda: github.refusals.append((422, {}))
    found = ask()
    assert found["dispatched"]
    assert found["why"].startswith(
        f"{WISH.reason}; could not check whether another monitor has dispatched one too"
    )
