"""Writes the site: an index of the fleet and a page a model, each whole in itself; nothing is fetched."""

import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from loop.core import html, params
from loop.core.errors import LoopError
from loop.core.files import whole, write_text
from loop.core.git import Git, GitError
from loop.core.names import public
from loop.delivery.history import Entry
from loop.pipeline.validate import FILTERS
from loop.report.facts import Facts, gather
from loop.version import VERSION

MARK = '<meta name="generator" content="loop report">'  # in each page
LATEST = 10  # changes on the index
SECONDS = 60  # for each command of git


def build(root: Path, out: Path, models: Sequence[str] = (), branch: str = "main") -> Path:
    """Write the site of these models, or of all; returns its index."""
    git = Git(root, seconds=SECONDS)
    commit, told = tip(git, branch)
    facts = [gather(git, root, name, commit) for name in models or params.read(root)]
    ours(out)
    shared = {"commit": commit, "told": told, "now": datetime.now(UTC), "version": VERSION, "fleet": facts}
    with whole(out) as aside:
        aside.mkdir()
        write_text(aside / "index.html", page("index.html.j2", latest=latest(facts), **shared))
        for one in facts:
            _model(aside / one.model, one, shared)
    return out / "index.html"


def tip(git: Git, branch: str) -> tuple[str, str]:
    """The commit whose releases are told, in words too: origin's branch, or HEAD where origin is not had."""
    try:
        return git.fetch(branch), f"origin's {branch}"
    except GitError:
        return git.head(), f"this clone's HEAD, as origin's {branch} could not be had"


def ours(out: Path) -> None:
    """Only a site of ours is replaced: LoopError where the folder holds anything else."""
    index = out / "index.html"
    if out.exists() and MARK not in (index.read_text(encoding="utf-8") if index.is_file() else ""):
        raise LoopError(f"{out} is there, and is no report", fix="name another folder by --out, or remove it")


def latest(facts: Sequence[Facts]) -> list[tuple[str, str, Entry]]:
    """The fleet's last changes of what people are served: (model, environment, change), newest first."""
    found = [
        (one.model, one.served.name, entry) for one in facts if one.served for entry in one.served.history
    ]
    return sorted(found, key=lambda each: when(each[2].when), reverse=True)[:LATEST]


def weakest(facts: Facts) -> tuple[str, str, float] | None:
    """The part of the test rows that the model does worst on: feature, part, and the gate's metric there."""
    metric, slices = (
        facts.spec.gate.metric,
        (facts.evidence.metrics if facts.evidence else {}).get("slices", {}),
    )
    parts = [
        (feature, part, found[metric])
        for feature, cut in slices.items()
        for part, found in cut.items()
        if metric in found
    ]
    worst = max if metric in facts.lower else min
    return worst(parts, key=lambda part: part[2], default=None)


def page(template: str, **values: Any) -> str:
    """A page, by its template."""
    filters = {**FILTERS, "when": when, "public": public}
    return html.page(template, "loop.report", "loop.pipeline", filters=filters, **values)


def _model(folder: Path, facts: Facts, shared: dict[str, Any]) -> None:
    drift = facts.drift_page if facts.drift_page.is_file() else None
    write_text(
        folder / "index.html",
        page("model.html.j2", one=facts, drift_page=drift, weakest=weakest(facts), **shared),
    )
    if drift:
        shutil.copy(drift, folder / "drift.html")


def when(iso: str) -> str:
    """An ISO time, to the minute and in UTC."""
    return datetime.fromisoformat(iso).astimezone(UTC).strftime("%Y-%m-%d %H:%M")
