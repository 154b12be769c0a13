"""Dispatches a retraining, at most one per drift; Git's history and GitHub's runs decide if it is due."""

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
TITLE = re.compile("Train (.+?):")  # the run-name of train.yml: `Train <model>: <reason>`
EVERY = "every model"  # the model in the run-name of a run of train.yml without the input `model`
EVENTS = ("workflow_dispatch", "schedule")
AUTOMATIC = ("drift ", "SLA missed: ", "accuracy ")  # prefixes of the monitor's reasons; "accuracy " is older
BUDGET = timedelta(days=30)  # the period in which at most `monitor.budget` retrainings are dispatched
LISTINGS, PAUSE = 10, 3.0  # attempts, and seconds between them, to find a new run in GitHub's list of runs


@dataclass(frozen=True)
class Wish:
    """A request to retrain one model with the data known at `until` (UTC, naive)."""

    model: str
    until: datetime
    reason: str


def dispatch(git: Git, github: GitHub, wish: Wish, rules: params.Monitor, now: datetime) -> dict[str, Any]:
    """Dispatch train.yml unless a rule forbids it, and return an `answer`.

    If two monitors dispatch at the same time, the monitor whose run has the higher id cancels its own run.
    """
    main = git.fetch()
    until = trained_until(git, wish.model, main)
    if until and until >= wish.until:
        return answer(dispatched=False, why=f"main already trains on rows until {until.isoformat()}")
    runs, cooldown = _runs(github, now), timedelta(hours=rules.cooldown_hours)
    if against := recent(runs, wish, cooldown, now):
        return answer(dispatched=False, why=against)
    asked = max(spent(runs, wish), retrainings(git, wish.model, main, since=now - BUDGET))
    if asked >= rules.budget:
        why = f"the budget is spent: {asked} of {rules.budget} retrainings in 30 days; a person must check"
        return answer(dispatched=False, why=why, budget_spent=True)
    inputs = {"model": public(wish.model), "until": wish.until.isoformat(), "reason": wish.reason}
    run = github.dispatch(WORKFLOW, inputs)
    why = wish.reason
    try:
        if first := _first(github, run, wish, cooldown, now):
            github.cancel(run.id)
            why = f"{first}; run {run.id}, dispatched at the same time, is cancelled"
            return answer(dispatched=False, why=why, url=run.url)
    except LoopError as error:
        why += f"; could not check whether another monitor has dispatched one too: {error}"
    return answer(dispatched=True, why=why, url=run.url)


def answer(*, dispatched: bool, why: str, budget_spent: bool = False, url: str = "") -> dict[str, Any]:
    """Return what report.json says about a dispatch; `url` is the run's page, empty without a run."""
    return {"dispatched": dispatched, "why": why, "budget_spent": budget_spent, "url": url}


def _first(github: GitHub, run: Run, wish: Wish, cooldown: timedelta, now: datetime) -> str | None:
    """Return why an earlier run makes `run` unnecessary, else None.

    The run with the lowest id wins, so two monitors come to the same result. GitHub lists a run some seconds
    after its dispatch; once it lists `run`, it lists all earlier runs as well.
    """
    for listing in range(LISTINGS):
        if listing:
            time.sleep(PAUSE)
        runs = _runs(github, now)
        if any(each["id"] == run.id for each in runs):
            break
    return recent([each for each in runs if each["id"] < run.id], wish, cooldown, now)


def _runs(github: GitHub, now: datetime) -> list[dict[str, Any]]:
    """Return the runs of train.yml of the last 30 days, without cancelled runs, which retrained nothing."""
    runs = github.trusted(WORKFLOW, now - BUDGET, *EVENTS)
    return [run for run in runs if run["conclusion"] != "cancelled"]


def trained_until(git: Git, model: str, commit: str = "HEAD") -> datetime | None:
    """Return the end (UTC, naive) of production's rows that a commit trains on; None if it uses none."""
    text = git.read(commit, "params.yaml")
    if text is None:
        raise LoopError(f"{commit} of {git.root} has no params.yaml")
    section = params.sections(text, f"{commit}: params.yaml").get(package(model)) or {}
    if not (values := (section.get("ingest") or {}).get("logged")):
        return None
    where = f"{commit}: params.yaml: ingest.logged"
    return params.parse(params.Logged, values, where).until


def recent(runs: list[dict[str, Any]], wish: Wish, cooldown: timedelta, now: datetime) -> str | None:
    """Return why a run blocks this retraining: it has not ended, or it began within the cooldown; else None.

    A run whose title names no model blocks every model, because it may have retrained any of them.
    """
    for run in runs:
        title = TITLE.match(_title(run))
        if title and title[1] not in (public(wish.model), EVERY):
            continue
        began = datetime.fromisoformat(run["created_at"])
        unnamed = "" if title else f" (counts for every model, because its title names none: {_title(run)!r})"
        if run["status"] != "completed":
            return f"run {run['id']} is {run['status']}{unnamed}"
        if now - began < cooldown:
            hours = cooldown / timedelta(hours=1)
            when = f"began {began:%Y-%m-%d %H:%M} UTC, within the cooldown of {hours:g} h"
            return f"run {run['id']} {when}{unnamed}"
    return None


def spent(runs: list[dict[str, Any]], wish: Wish) -> int:
    """Return how many of the given workflow runs the monitor dispatched to retrain this model."""
    titles = tuple(f"Train {public(wish.model)}: {reason}" for reason in AUTOMATIC)
    return sum(_title(run).startswith(titles) for run in runs)


def retrainings(git: Git, model: str, commit: str = "HEAD", since: datetime | None = None) -> int:
    """Return how often drift or a missed SLA has retrained this model, counted from main's commits.

    Anyone can forge a commit's message and author in a pull request. So a commit counts only if it is on
    main's first-parent line, the bot committed it, and it changes only files that `loop land` writes,
    dvc.lock included. Weekly and manual retrainings do not count, so that the budget is left for drift.
    """
    keys = ("Action", "Model", "Why")
    trailers = (f"%(trailers:key={key},valueonly,unfold,separator=%x20)" for key in keys)
    # Use --since-as-filter, because --since stops at the first commit whose clock is wrong.
    query = [f"--since-as-filter={since.isoformat()}"] if since else []
    form = f"--format={'%x1f'.join(('%H', '%ae', '%ce', *trailers))}"
    found = git.run("log", "--first-parent", "--no-merges", form, *query, commit).split("\n")
    ours = [*[BOT["GIT_AUTHOR_EMAIL"]] * 2, "retrain", public(model)]
    return sum(
        said == ours and why.startswith(AUTOMATIC) and _landed(git, made, model)
        for made, *said, why in (line.split("\x1f") for line in found if line)
    )


def _landed(git: Git, commit: str, model: str) -> bool:
    """Return whether a commit changes dvc.lock and only files that `loop land` writes."""
    touched = guard.touched(git, commit)
    return "dvc.lock" in touched and touched <= {*guard.retrained(model)}


def _title(run: dict[str, Any]) -> str:
    return run.get("display_title") or run.get("name") or ""
