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


def dispatch(git: Git, github: GitHub, wish: Wish, cooldown: timedelta, now: datetime) -> dict[str, Any]:
    """Dispatch train.yml unless something stands against it; returns {dispatched, why}.

    Two monitors at the same second may both dispatch: the second retraining then finds its inputs
    committed and changes nothing.
    """
    against = trained_on(git, wish) or recent(github.runs(WORKFLOW, per_page="100"), wish, cooldown, now)
    if against:
        return {"dispatched": False, "why": against}
    github.dispatch(WORKFLOW, wish.inputs)
    return {"dispatched": True, "why": wish.reason}


def trained_on(git: Git, wish: Wish) -> str | None:
    """What origin's main says: whether it already trains on production's rows up to the window's end."""
    text = git.read(git.fetch(), "params.yaml")
    if text is None:
        raise LoopError(f"origin's main has no params.yaml, seen from {git.root}")
    section = YAML(typ="safe").load(text)["models"].get(package(wish.model), {})
    if not (values := section.get("ingest", {}).get("logged")):
        return None
    logged = params.parse(params.Logged, values, "origin/main: params.yaml: ingest.logged")
    if logged.until.replace(tzinfo=None) >= wish.until:
        return f"main already trains on rows until {logged.until.isoformat()}"
    return None


def recent(runs: list[dict[str, Any]], wish: Wish, cooldown: timedelta, now: datetime) -> str | None:
    """A run of this model that is not over, or that began within the cooldown."""
    for run in runs:
        title = str(run.get("display_title") or run.get("name"))
        if not title.startswith((f"Train {public(wish.model)}:", f"Train {EVERY}:")):
            continue
        began = datetime.fromisoformat(run["created_at"])
        if run["status"] in OPEN:
            return f"run {run['id']} is {run['status']}"
        if now - began < cooldown:
            hours = cooldown / timedelta(hours=1)
            return f"run {run['id']} began {began:%Y-%m-%d %H:%M} UTC, within the cooldown of {hours:g} h"
    return None


def retrainings(git: Git, model: str) -> int:
    """How often the loop has retrained this model, by the trailers in the log of what is checked out."""
    query = ("--all-match", "--grep=^Action: retrain$", f"--grep=^Model: {public(model)}$")
    log = git.run("log", "--format=%H", *query)
    return len(log.split())
