"""Writes the site: an index of all models and one self-contained page per model."""

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
from loop.core.project import Project
from loop.core.results import Entry
from loop.pipeline.validate import FILTERS
from loop.report.facts import Facts, gather
from loop.version import VERSION

MARK = '<meta name="generator" content="loop report">'  # identifies a page of this site
LATEST = 10  # number of changes on the index page
SECONDS = 60  # time limit of each Git command


def build(root: Path, out: Path, models: Sequence[str] = (), branch: str = "main") -> Path:
    """Write the site of the given models, by default all; returns the path of its index.

    Raises LoopError if `out` holds something other than an earlier site.
    """
    git = Git(root, seconds=SECONDS)
    commit, told = tip(git, branch)
    facts = [gather(git, Project(root, name), commit) for name in models or params.read(root)]
    ours(out)
    shared = {"commit": commit, "told": told, "now": datetime.now(UTC), "version": VERSION, "fleet": facts}
    with whole(out) as aside:
        aside.mkdir()
        write_text(aside / "index.html", page("index.html.j2", latest=latest(facts), **shared))
        for one in facts:
            drift = one.drift_page if one.drift_page.is_file() else None
            text = page("model.html.j2", one=one, drift_page=drift, weakest=weakest(one), **shared)
            write_text(aside / one.model / "index.html", text)
            if drift:
                shutil.copy(drift, aside / one.model / "drift.html")
    return out / "index.html"


def tip(git: Git, branch: str) -> tuple[str, str]:
    """Return the commit whose releases are shown, and its description: origin's branch, else HEAD."""
    try:
        return git.fetch(branch), f"origin's {branch}"
    except GitError:
        return git.head(), f"this clone's HEAD, because origin's {branch} could not be fetched"


def ours(out: Path) -> None:
    """Raise LoopError if the output folder exists and is not an earlier site, which may be replaced."""
    index = out / "index.html"
    if out.exists() and MARK not in (index.read_text(encoding="utf-8") if index.is_file() else ""):
        raise LoopError(f"{out} exists and is not a site", fix="name another folder by --out, or remove it")


def latest(facts: Sequence[Facts]) -> list[tuple[str, str, Entry]]:
    """Return the latest changes of the served releases: (model, environment, change), newest first."""
    served = [(one.model, one.served) for one in facts if one.served]
    found = [(model, place.name, entry) for model, place in served for entry in place.history]
    return sorted(found, key=lambda each: when(each[2].when), reverse=True)[:LATEST]


def weakest(facts: Facts) -> tuple[str, str, float] | None:
    """Return the part of the test rows with the worst gate metric: feature, part, and the metric's value."""
    metric = facts.spec.gate.metric
    slices = facts.evidence.metrics.get("slices", {}) if facts.evidence else {}
    values = ((feature, part, found) for feature, cut in slices.items() for part, found in cut.items())
    parts = [(feature, part, found[metric]) for feature, part, found in values if metric in found]
    worst = max if metric in facts.lower else min
    return worst(parts, key=lambda part: part[2], default=None)


def page(template: str, **values: Any) -> str:
    """Render a page from its template."""
    filters = {**FILTERS, "when": when, "public": public}
    return html.page(template, "loop.report", "loop.pipeline", filters=filters, **values)


def when(iso: str) -> str:
    """Format an ISO time in UTC, to the minute."""
    return datetime.fromisoformat(iso).astimezone(UTC).strftime("%Y-%m-%d %H:%M")
