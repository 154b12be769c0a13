"""Gathers the facts of a model's page from the last run's files and from Git; what is missing stays empty."""

import ast
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa

from loop.core import models, params, release_state
from loop.core.dvc import Lock, check, md5
from loop.core.git import Git
from loop.core.names import public
from loop.core.paths import ModelPaths
from loop.core.release_state import State
from loop.delivery import history
from loop.delivery.commit import Place
from loop.pipeline import evaluate
from loop.pipeline.plots import CURVES
from loop.report import draw, lineage
from loop.report.draw import Chart
from loop.report.lineage import Lineage
from loop.review import evidence
from loop.review.evidence import SAMPLES, Evidence, compared, known
from loop.stats import bootstrap, metrics
from loop.stats.bootstrap import Interval

FIRST = "production"  # the environment that is listed first
WORDS = {  # texts of the model card, and the module whose docstring holds each text
    "model": "__init__",
    "data": "schema",
    "features": "features",
    "estimator": "estimator",
}


@dataclass(frozen=True)
class Environment:
    """The release state of one environment, and its history, newest change first."""

    name: str
    state: State
    history: list[history.Entry]


@dataclass(frozen=True)
class Facts:
    """The facts about a model; unknown values are None or empty."""

    model: str
    paths: ModelPaths
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
        return self.paths.build / "monitor" / "report.html"


def gather(git: Git, root: Path, model: str, commit: str) -> Facts:
    """Read a model's facts from files, its environments from a commit. Raises LoopError for broken files."""
    paths, spec = ModelPaths(root, model), params.load(root, model)
    environments = _environments(git, paths, commit)
    known(paths.metrics), known(paths.trained / "meta.json")  # fails early on invalid JSON
    found = _evidence(root, model) if paths.metrics.is_file() else None
    stopped = known(paths.build / "validation" / "quality.json")
    plots = {name: known(paths.plots / "curves" / f"{name}.json") or [] for name in CURVES}
    return Facts(
        model=public(model),
        paths=paths,
        spec=spec,
        environments=environments,
        evidence=found,
        intervals=_intervals(root, model, spec, found),
        curves=draw.curves(plots, found) if found else [],
        quality=stopped or known(paths.validation / "quality.json"),
        rejected=stopped is not None,
        drift=known(paths.build / "monitor" / "report.json"),
        rehearsal=known(paths.build / "rehearse.json"),
        meta=known(paths.trained / "meta.json"),
        words={what: _docstring(paths.source / f"{module}.py") for what, module in WORDS.items()},
        lineages=_lineages(git, root, model, environments),
        strange=_strange(paths),
    )


def _evidence(root: Path, model: str) -> Evidence:
    try:
        return evidence.gather(root, model, None)
    except (pa.ArrowException, ValueError, LookupError):
        check(root, model)  # names the file in a LoopError, if a stage's output was altered
        raise


def _environments(git: Git, paths: ModelPaths, commit: str) -> list[Environment]:
    """Return the environments with an overlay of the model, production first."""
    model, found = public(paths.model), []
    overlays = (paths.root / "kustomize" / "overlays").glob(f"*/{model}")
    for name in sorted((path.parent.name for path in overlays), key=lambda name: (name != FIRST, name)):
        told = release_state.at(git, commit, name, model) or State()
        found.append(Environment(name, told, history.changes(git, Place(model, name), commit)))
    return found


def _intervals(root: Path, model: str, spec: params.Model, found: Evidence | None) -> dict[str, Interval]:
    """Return the confidence interval of each metric, by bootstrap over the test rows."""
    if found is None or found.labels is None:
        return {}
    folder = models.load(root, model)
    own = evaluate.own(folder, spec.evaluate)
    known = own.known(folder.task)
    return {
        metric: bootstrap.interval(
            found.labels,
            found.scores["candidate"],
            metric=known[metric],
            samples=SAMPLES,
            confidence=spec.gate.confidence,
            threshold=evaluate.decisive(spec.evaluate),
            columns=found.rows,
            units=own.units(found.rows),
        )
        for metric in compared(known, spec.gate)
    }


def _lineages(git: Git, root: Path, model: str, environments: list[Environment]) -> list[Lineage]:
    """Return the lineage of each served release, and of the work tree if its model is not served."""
    states = {one.name: one.state for one in environments}
    tracks = [track for one in states.values() for track in (one.stable, one.canary) if track]
    own = lineage.model_md5(Lock.of(root), model)
    here = None if own in {track.model_md5 for track in tracks} else lineage.candidate(root, model)
    return lineage.released(git, model, states) + ([here] if here else [])


def _strange(paths: ModelPaths) -> list[str]:
    """Return outputs and gate.json that belong to another run than dvc.lock records."""
    lock, gate, unread = Lock.of(paths.root), paths.build / "gate.json", (paths.raw, paths.features)
    there = [(paths.root / path, recorded) for path, recorded in lock.outs(paths.model).items()]
    found = [
        path for path, recorded in there if path not in unread and path.exists() and md5(path) != recorded
    ]
    if (judged := known(gate)) and judged["challenger"]["model_md5"] != lineage.model_md5(lock, paths.model):
        found.append(gate)
    return [str(path.relative_to(paths.root)) for path in found]


def _docstring(path: Path) -> str:
    """Return the docstring of a module in the model's folder; empty if there is none."""
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "") if path.is_file() else ""
