"""Asking for a retraining, once: what stands against it is read from Git and from GitHub's runs."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from ruamel.yaml import YAML

from loop.core import params
from loop.core.errors import LoopError
from loop.core.git import Git
from loop.core.github import GitHub
from loop.core.names import package, public

WORKFLOW = "train.yml"  # its run-name is `Train <model>: <reason>`: how a run tells whose it is
EVERY = "every model"  # what it says there when it was given none
AUTOMATIC = ("drift ", "accuracy ")  # how a reason of the monitor begins
BUDGET = timedelta(days=30)  # in which `monitor.budget` retrainings may be asked for
OPEN = ("queued", "in_progress", "waiting", "requested", "pending")


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
    """Dispatch train.yml unless something stands against it; returns {dispatched, why, budget_spent}.

    Two monitors at the same second may both dispatch: the second retraining then finds its inputs
    committed and changes nothing.
    """
    main = git.fetch()
    runs = github.runs(WORKFLOW, per_page="100")
    cooldown = timedelta(hours=rules.cooldown_hours)
    if against := trained_on(git, main, wish) or recent(runs, wish, cooldown, now):
        return {"dispatched": False, "why": against, "budget_spent": False}
    asked = max(spent(runs, wish, now), retrainings(git, wish.model, main, since=now - BUDGET))
    if asked >= rules.budget:
        why = f"the budget is spent: {asked} of {rules.budget} retrainings in 30 days; a person must look"
        return {"dispatched": False, "why": why, "budget_spent": True}
    github.dispatch(WORKFLOW, wish.inputs)
    return {"dispatched": True, "why": wish.reason, "budget_spent": False}


def trained_on(git: Git, main: str, wish: Wish) -> str | None:
    """What origin's main says: whether it already trains on production's rows up to the window's end."""
    until = trained_until(git, wish.model, main)
    if until and until >= wish.until:
        return f"main already trains on rows until {until.isoformat()}"
    return None


def trained_until(git: Git, model: str, commit: str = "HEAD") -> datetime | None:
    """The end (UTC, naive) of production's rows that a commit trains on; None where it trains on none."""
    text = git.read(commit, "params.yaml")
    if text is None:
        raise LoopError(f"{commit} has no params.yaml, seen from {git.root}")
    section = YAML(typ="safe").load(text)["models"].get(package(model), {})
    if not (values := section.get("ingest", {}).get("logged")):
        return None
    where = f"{commit}: params.yaml: ingest.logged"
    return params.parse(params.Logged, values, where).until.replace(tzinfo=None)


def recent(runs: list[dict[str, Any]], wish: Wish, cooldown: timedelta, now: datetime) -> str | None:
    """A run of this model that is not over, or that began within the cooldown."""
    for run in runs:
        if not _title(run).startswith((f"Train {public(wish.model)}:", f"Train {EVERY}:")):
            continue
        began = datetime.fromisoformat(run["created_at"])
        if run["status"] in OPEN:
            return f"run {run['id']} is {run['status']}"
        if now - began < cooldown:
            hours = cooldown / timedelta(hours=1)
            return f"run {run['id']} began {began:%Y-%m-%d %H:%M} UTC, within the cooldown of {hours:g} h"
    return None


def spent(runs: list[dict[str, Any]], wish: Wish, now: datetime) -> int:
    """How many runs of this model the monitor asked for in the last 30 days."""
    begins = tuple(f"Train {public(wish.model)}: {reason}" for reason in AUTOMATIC)
    return sum(
        _title(run).startswith(begins) and now - datetime.fromisoformat(run["created_at"]) < BUDGET
        for run in runs
    )


def retrainings(git: Git, model: str, commit: str = "HEAD", since: datetime | None = None) -> int:
    """How often drift or accuracy has retrained this model, by the trailers in a commit's log.

    A weekly one counts no more than one by hand: it would spend the budget that drift is to have.
    """
    why = "|".join(AUTOMATIC)
    query = ["--extended-regexp", "--all-match", "--grep=^Action: retrain$"]
    query += [f"--grep=^Model: {public(model)}$", f"--grep=^Why: ({why})"]
    query += [f"--since={since.isoformat()}"] if since else []
    return len(git.run("log", "--format=%H", *query, commit).split())


def _title(run: dict[str, Any]) -> str:
    return str(run.get("display_title") or run.get("name"))
