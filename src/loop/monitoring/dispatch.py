"""Dispatching a retraining: at most one for a drift, decided by what Git and GitHub's runs say."""

import re
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from loop.core import params
from loop.core.errors import LoopError
from loop.core.git import BOT, Git
from loop.core.github import GitHub, Run
from loop.core.names import package, public
from loop.delivery import guard

WORKFLOW = "train.yml"
TITLE = re.compile("Train (.+?): ?(.*)")  # its run-name: `Train <model>: <reason>`
EVERY = "every model"  # the model in the run-name of a run without the input `model`
EVENTS = ("workflow_dispatch", "schedule")
AUTOMATIC = ("drift ", "SLA missed: ", "accuracy ")  # how the monitor's reasons begin; the last until 2026-11
BUDGET = timedelta(days=30)  # in which `monitor.budget` retrainings may be dispatched
LISTINGS, PAUSE = 10, 3.0  # how often, and after how many seconds, to look for a run that is not listed yet


@dataclass(frozen=True)
class Wish:
    """A retraining of one model on what was known at `until` (UTC, naive)."""

    model: str
    until: datetime
    reason: str

    @property
    def inputs(self) -> dict[str, str]:
        return {"model": public(self.model), "until": self.until.isoformat(), "reason": self.reason}


def dispatch(git: Git, github: GitHub, wish: Wish, rules: params.Monitor, now: datetime) -> dict[str, Any]:
    """Dispatch train.yml unless something is against it; returns {dispatched, why, budget_spent, url}.

    Of two monitors that dispatch at once, the one whose run came second cancels it.
    """
    main = git.fetch()
    runs, cooldown = _runs(github, now), timedelta(hours=rules.cooldown_hours)
    if against := trained_on(git, main, wish) or recent(runs, wish, cooldown, now):
        return _done(dispatched=False, why=against)
    asked = max(spent(runs, wish), retrainings(git, wish.model, main, since=now - BUDGET))
    if asked >= rules.budget:
        why = f"the budget is spent: {asked} of {rules.budget} retrainings in 30 days; a person must look"
        return _done(dispatched=False, why=why, budget_spent=True)
    run = github.dispatch(WORKFLOW, wish.inputs)
    if run is None:  # without an id, our run cannot be distinguished from the other monitor's
        return _done(dispatched=True, why=wish.reason)
    try:
        if first := _first(github, run, wish, cooldown, now):
            github.cancel(run.id)
            why = f"{first}; so run {run.id}, which was dispatched at the same time, is cancelled"
            return _done(dispatched=False, why=why, url=run.url)
    except LoopError as error:
        why = f"{wish.reason}; whether another monitor has dispatched one too is not known: {error}"
        return _done(dispatched=True, why=why, url=run.url)
    return _done(dispatched=True, why=wish.reason, url=run.url)


def _done(*, dispatched: bool, why: str, budget_spent: bool = False, url: str = "") -> dict[str, Any]:
    return {"dispatched": dispatched, "why": why, "budget_spent": budget_spent, "url": url}


def _first(github: GitHub, run: Run, wish: Wish, cooldown: timedelta, now: datetime) -> str | None:
    """What was dispatched just before `run` and is against it. By the ids, both monitors choose the same run.

    GitHub lists a run some seconds after its dispatch. When it lists ours, it lists those before it as well.
    """
    for listing in range(LISTINGS):
        if listing:
            time.sleep(PAUSE)
        runs = _runs(github, now)
        if any(each["id"] == run.id for each in runs):
            break
    return recent([each for each in runs if each["id"] < run.id], wish, cooldown, now)


def _runs(github: GitHub, now: datetime) -> list[dict[str, Any]]:
    """Those of the last 30 days; one that was cancelled has retrained nothing, so it is against nothing."""
    runs = github.trusted(WORKFLOW, now - BUDGET, *EVENTS)
    return [run for run in runs if run["conclusion"] != "cancelled"]


def trained_on(git: Git, main: str, wish: Wish) -> str | None:
    """Why not, where main already trains on production's rows up to the window's end."""
    until = trained_until(git, wish.model, main)
    if until and until >= wish.until:
        return f"main already trains on rows until {until.isoformat()}"
    return None


def trained_until(git: Git, model: str, commit: str = "HEAD") -> datetime | None:
    """The end (UTC, naive) of production's rows that a commit trains on; None where it trains on none."""
    text = git.read(commit, "params.yaml")
    if text is None:
        raise LoopError(f"{commit} has no params.yaml, seen from {git.root}")
    section = params.sections(text, f"{commit}: params.yaml").get(package(model)) or {}
    if not (values := (section.get("ingest") or {}).get("logged")):
        return None
    where = f"{commit}: params.yaml: ingest.logged"
    return params.parse(params.Logged, values, where).until


def recent(runs: list[dict[str, Any]], wish: Wish, cooldown: timedelta, now: datetime) -> str | None:
    """A run of this model that has not ended, or that began within the cooldown.

    A run whose title names no model may be anyone's, so it counts for every model.
    """
    for run in runs:
        title = TITLE.match(_title(run))
        if title and title[1] not in (public(wish.model), EVERY):
            continue
        began = datetime.fromisoformat(run["created_at"])
        unnamed = "" if title else f" (it counts for every model, as its title names none: {_title(run)!r})"
        if run["status"] != "completed":
            return f"run {run['id']} is {run['status']}{unnamed}"
        if now - began < cooldown:
            hours = cooldown / timedelta(hours=1)
            when = f"began {began:%Y-%m-%d %H:%M} UTC, within the cooldown of {hours:g} h"
            return f"run {run['id']} {when}{unnamed}"
    return None


def spent(runs: list[dict[str, Any]], wish: Wish) -> int:
    """How many of these runs retrain this model because the monitor dispatched them."""
    titles = (TITLE.match(_title(run)) for run in runs)
    return sum(
        title is not None and title[1] == public(wish.model) and title[2].startswith(AUTOMATIC)
        for title in titles
    )


def retrainings(git: Git, model: str, commit: str = "HEAD", since: datetime | None = None) -> int:
    """How often drift or a missed SLA has retrained this model, by the commits that `land` has put on main.

    Whoever proposes a change writes its message, and its author too. So a commit counts only if it stands on
    main itself, our machine has made it, and it writes what `land` writes, dvc.lock among it. Weekly
    retrainings and those by hand do not count, so that they leave the budget to drift.
    """
    trailers = (
        f"%(trailers:key={key},valueonly,unfold,separator=%x20)" for key in ("Action", "Model", "Why")
    )
    # As a filter: otherwise the walk ends at the first commit whose clock is wrong.
    query = [f"--since-as-filter={since.isoformat()}"] if since else []
    form = f"--format={'%x1f'.join(('%H', '%ae', '%ce', *trailers))}"
    found = git.run("log", "--first-parent", "--no-merges", form, *query, commit).split("\n")
    ours = [*[BOT["GIT_AUTHOR_EMAIL"]] * 2, "retrain", public(model)]
    return sum(
        said == ours and why.startswith(AUTOMATIC) and _landed(git, made, model)
        for made, *said, why in (line.split("\x1f") for line in found if line)
    )


def _landed(git: Git, commit: str, model: str) -> bool:
    """Whether a commit has changed dvc.lock, and no file but those that `land` writes."""
    touched = guard.touched(git, commit)
    return "dvc.lock" in touched and touched <= {*guard.retrained(model)}


def _title(run: dict[str, Any]) -> str:
    return run.get("display_title") or run.get("name") or ""
