"""Gathers the facts of a model's page from the last run's files and from Git; what is missing stays empty."""

import ast
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa

from loop.core import params, release_state
from loop.core.dvc import check, md5
from loop.core.git import Git
from loop.core.project import Project
from loop.core.release_state import State
from loop.core.results import Entry
from loop.delivery.commit import Place, history
from loop.report import draw, lineage
from loop.report.draw import Chart
from loop.report.lineage import Lineage
from loop.review import evidence
from loop.review.evidence import SAMPLES, Evidence, compared, known
from loop.stats import bootstrap, metrics
from loop.stats.bootstrap import Interval

FIRST = "production"  # the environment that is listed first
# texts of the model card, and the module whose docstring holds each text
WORDS = {"model": "__init__", "data": "schema", "features": "features", "estimator": "estimator"}


@dataclass(frozen=True)
class Environment:
    """The release state of one environment, and its history, newest change first."""

    name: str
    state: State
    history: list[Entry]


@dataclass(frozen=True)
class Facts:
    """The facts about a model; unknown values are None or empty."""

    model: str
    project: Project
    spec: params.Model
    environments: list[Environment]
    evidence: Evidence | None
    intervals: dict[str, Interval]
    curves: list[Chart]
    quality: dict[str, Any] | None
    rejected: bool  # whether `quality` is of data that validation rejected
    drift: dict[str, Any] | None
    rehearsal: dict[str, Any] | None
    meta: dict[str, Any] | None
    words: dict[str, str]
    lineages: list[Lineage]
    strange: list[str]  # files whose content is not the content that dvc.lock records

    @property
    def served(self) -> Environment | None:
        """The first environment with a stable release, which is production if it has one."""
        return next((one for one in self.environments if one.state.stable), None)

    @property
    def loss(self) -> str:
        """The name of the loss that rises when a feature is shuffled."""
        return metrics.LOSS[self.evidence.task].name.replace("_", " ") if self.evidence else ""

    @property
    def sliced(self) -> list[str]:
        """The two metrics shown for each part of the rows, the gate's metric first."""
        known = metrics.SLICED[self.evidence.task] if self.evidence else ()
        return sorted(known, key=lambda name: name != self.spec.gate.metric)[:2]

    @property
    def lower(self) -> set[str]:
        """The metrics for which lower values are better."""
        return {metric.name for metric in chain(*metrics.TASKS.values()) if metric.lower}

    @property
    def drift_page(self) -> Path:
        return self.project.build / "monitor" / "report.html"


def gather(git: Git, project: Project, commit: str) -> Facts:
    """Read a model's facts from files, its environments from a commit. Raises LoopError for broken files."""
    environments = _environments(git, project, commit)
    found = _evidence(project) if project.metrics.is_file() else None
    stopped = known(project.build / "validation" / "quality.json")
    return Facts(
        model=project.public,
        project=project,
        spec=project.params,
        environments=environments,
        evidence=found,
        intervals=_intervals(project, found),
        curves=draw.curves(found) if found else [],
        quality=stopped or known(project.validation / "quality.json"),
        rejected=stopped is not None,
        drift=known(project.build / "monitor" / "report.json"),
        rehearsal=known(project.build / "rehearse.json"),
        meta=known(project.trained / "meta.json"),
        words={what: _docstring(project.source / f"{module}.py") for what, module in WORDS.items()},
        lineages=_lineages(git, project, environments),
        strange=_strange(project),
    )


def _evidence(project: Project) -> Evidence:
    try:
        return evidence.gather(project, None)
    except (pa.ArrowException, ValueError, LookupError):
        check(project)  # names the file in a LoopError, if a stage's output was altered
        raise


def _environments(git: Git, project: Project, commit: str) -> list[Environment]:
    """Return the environments with an overlay of the model, production first."""
    model, found = project.public, []
    overlays = (project.root / "kustomize" / "overlays").glob(f"*/{model}")
    for name in sorted((path.parent.name for path in overlays), key=lambda name: (name != FIRST, name)):
        told = release_state.at(git, commit, name, model) or State()
        found.append(Environment(name, told, history(git, Place(model, name), commit)))
    return found


def _intervals(project: Project, found: Evidence | None) -> dict[str, Interval]:
    """Return the confidence interval of each metric, by bootstrap over the test rows."""
    if found is None or not found.scored:
        return {}
    rows, confidence = found.scored["candidate"], project.params.gate.confidence
    return {
        metric.name: bootstrap.interval(rows, metric.prepare(rows), samples=SAMPLES, confidence=confidence)
        for metric in compared(project)
    }


def _lineages(git: Git, project: Project, environments: list[Environment]) -> list[Lineage]:
    """Return the lineage of each served release, and of the work tree if its model is not served."""
    states = {one.name: one.state for one in environments}
    tracks = [track for one in states.values() for track in (one.stable, one.canary) if track]
    own = project.lock.outs(project.model).get(f"data/{project.package}/model")
    here = None if own in {track.model_md5 for track in tracks} else lineage.candidate(project)
    return lineage.released(git, project.model, states) + ([here] if here else [])


def _strange(project: Project) -> list[str]:
    """Return outputs and gate.json that belong to another run than dvc.lock records."""
    outs, unread = project.lock.outs(project.model), (project.raw, project.features)
    there = {name: project.root / name for name in outs if (project.root / name).exists()}
    found = [name for name, path in there.items() if path not in unread and md5(path) != outs[name]]
    judged = known(project.build / "gate.json")
    if judged and judged["challenger"]["model_md5"] != outs.get(f"data/{project.package}/model"):
        found.append(f"build/{project.package}/gate.json")
    return found


def _docstring(path: Path) -> str:
    """Return the docstring of a module in the model's folder; empty if there is none."""
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "") if path.is_file() else ""
