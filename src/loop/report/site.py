"""Writes the site: an index of all models and one self-contained page per model."""

import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from loop.core import html, params
from loop.core.files import whole, write_text
from loop.core.git import Git, GitError
from loop.core.project import Project
from loop.core.results import Entry
from loop.pipeline.validate import FILTERS
from loop.report.draw import curves
from loop.report.facts import Facts
from loop.version import VERSION

LATEST = 10  # number of changes on the index page
SECONDS = 60  # time limit of each Git command


def build(root: Path, models: Sequence[str] = ()) -> Path:
    """Write the site of the given models, by default all, to build/report; returns the path of its index.

    It shows the releases of origin's main or, if that cannot be fetched, of HEAD.
    """
    git, out = Git(root, seconds=SECONDS), root / "build" / "report"
    try:
        commit, told = git.fetch(), "origin's main"
    except GitError:
        commit, told = git.head(), "this clone's HEAD, because origin's main could not be fetched"
    facts = [Facts(git, Project(root, name), commit) for name in models or params.read(root)]
    for one in facts:
        _ = one.intervals  # here, as a template would take a model's AttributeError for a missing value
    shared = {"commit": commit, "told": told, "now": datetime.now(UTC), "version": VERSION, "fleet": facts}
    with whole(out) as aside:
        aside.mkdir()
        write_text(aside / "index.html", page("index.html.j2", latest=latest(facts), **shared))
        for one in facts:
            folder, drift = aside / one.project.public, one.project.build / "monitor" / "report.html"
            text = page("model.html.j2", one=one, drift_page=drift.is_file(), **shared)
            write_text(folder / "index.html", text)
            if drift.is_file():
                shutil.copy(drift, folder / "drift.html")
    return out / "index.html"


def latest(facts: Sequence[Facts]) -> list[tuple[str, str, Entry]]:
    """Return the latest changes of the served releases: (model, environment, change), newest first."""
    served = [(one.project.public, one.served) for one in facts if one.served]
    found = [(model, place.name, entry) for model, place in served for entry in place.history]
    return sorted(found, key=lambda each: when(each[2].when), reverse=True)[:LATEST]


def page(template: str, **values: Any) -> str:
    """Render a page from its template."""
    filters: dict[str, Any] = {**FILTERS, "when": when, "curves": curves}
    return html.page(template, "loop.report", "loop.pipeline", filters=filters, **values)


def when(iso: str) -> str:
    """Format an ISO time in UTC, to the minute."""
    return datetime.fromisoformat(iso).astimezone(UTC).strftime("%Y-%m-%d %H:%M")
