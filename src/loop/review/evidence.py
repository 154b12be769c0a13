"""Gathers the content of the report from the stages' outputs, the gate, and the base branch."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from loop.core import params
from loop.core.errors import LoopError
from loop.core.files import read_json
from loop.core.models import Task
from loop.core.project import Project
from loop.monitoring.drift import drift, seen
from loop.pipeline import evaluate, split
from loop.review import base, cluster, image, locks
from loop.stats import bootstrap
from loop.stats.bootstrap import Interval
from loop.stats.metrics import Metric

Floats = NDArray[np.float64]
COMPARED = (
    "average_precision",
    "roc_auc",
    "accuracy",
    "rmse",
    "mae",
)  # metrics to compare besides the gate's, if the task has them
SAMPLES = 300  # bootstrap resamples; enough for display, while the gate decides with its own number


@dataclass(frozen=True)
class Evidence:
    """Everything that the report shows of a candidate; unknown values are empty."""

    model: str
    metrics: dict[str, Any]
    base: dict[str, Any] = field(default_factory=dict)
    quality: dict[str, Any] = field(default_factory=dict)
    gate: dict[str, Any] | None = None
    rows: pa.Table | None = None  # the candidate's scores.parquet
    labels: NDArray[np.int64] | None = None
    scores: dict[str, Floats] = field(
        default_factory=dict
    )  # by model: scores of the same rows, the candidate's first
    intervals: dict[tuple[str, str], Interval] = field(
        default_factory=dict
    )  # by (model, metric): the candidate's lead
    task: Task = "binary"
    importance: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    drift: dict[str, tuple[str, float]] = field(
        default_factory=dict
    )  # by feature: test, distance from the base branch
    manifests: dict[str, list[str]] | None = None
    image: dict[str, tuple[int, int | None]] = field(
        default_factory=dict
    )  # by part of the image: bytes here, bytes on the base branch
    packages: list[tuple[str, str, str, str]] = field(default_factory=list)


def gather(project: Project, theirs: Project | None) -> Evidence:
    """Read a candidate's evidence; `theirs` is a checkout of the base branch, or None without an origin."""
    if theirs:
        base.outputs(theirs)
    rows = pq.read_table(project.scores) if project.scores.is_file() else None
    labels, scores = _scores(project, rows, theirs)
    return Evidence(
        model=project.public,
        task=(known(project.trained / "meta.json") or {}).get("task", "binary"),
        metrics=read_json(project.metrics),
        base=known(theirs.metrics) or {} if theirs else {},
        quality=known(project.validation / "quality.json") or {},
        gate=known(project.build / "gate.json"),
        rows=rows,
        labels=labels,
        scores=scores,
        intervals=_intervals(project, rows, labels, scores),
        importance=_importance(project, theirs),
        drift=_drift(project, theirs),
        manifests=cluster.differences(theirs.root, project.root, project.model) if theirs else None,
        image=_image(project, theirs),
        packages=_packages(theirs.root, project.root, project.package) if theirs else [],
    )


def _scores(project: Project, rows: pa.Table | None, theirs: Project | None) -> tuple[Any, dict[str, Floats]]:
    """Return labels and scores of the test rows, by the candidate and by other models for equal rows."""
    if rows is None:
        return None, {}
    folder = project.folder
    labels = split.numbers(rows[folder.roles.label], read_json(project.trained / "meta.json")["classes"])
    found = {"candidate": evaluate.values(rows)}
    others = {"champion": project.build / "champion.parquet", "base branch": theirs and theirs.scores}
    for who, path in others.items():
        if path and path.is_file() and _same_rows(rows, table := pq.read_table(path), folder.roles.id):
            found[who] = evaluate.values(table)
    return labels, found


def _same_rows(ours: pa.Table, theirs: pa.Table, key: str) -> bool:
    names = [name for name in ours.column_names if name.startswith("score")]
    return set(names) <= set(theirs.column_names) and bool(ours[key].equals(theirs[key]))


def _intervals(
    project: Project, rows: pa.Table | None, labels: Any, scores: dict[str, Floats]
) -> dict[Any, Interval]:
    """Return the candidate's lead over each other model, by paired bootstrap over the same rows."""
    if rows is None:
        return {}
    folder, section, ours = project.folder, project.params, scores["candidate"]
    threshold = evaluate.decisive(section.evaluate)
    own = evaluate.own(folder, section.evaluate)
    known = own.known(folder.task)
    return {
        (who, name): bootstrap.difference(
            labels,
            theirs,
            ours,
            metric=known[name],
            samples=SAMPLES,
            confidence=section.gate.confidence,
            thresholds=(threshold, threshold),
            columns=rows,
            units=own.units(rows),
        )
        for who, theirs in scores.items()
        for name in compared(known, section.gate)
        if who != "candidate"
    }


def compared(known: dict[str, Metric], gate: params.Gate) -> list[str]:
    """Return the metrics to compare two models by: the usual metrics among `known`, and the gate's."""
    return [name for name in dict.fromkeys((*COMPARED, gate.metric)) if name in known]


def _importance(project: Project, theirs: Project | None) -> dict[str, list[dict[str, Any]]]:
    sides = {"candidate": project, "base branch": theirs}
    found = {who: known(side.plots / "importance.json") for who, side in sides.items() if side}
    return {who: points for who, points in found.items() if points}


def _drift(project: Project, theirs: Project | None) -> dict[str, tuple[str, float]]:
    """Return how far each feature's training rows have moved from the base branch's."""
    if not theirs or not theirs.reference.is_file() or not project.reference.is_file():
        return {}
    names = seen(project.trained / "meta.json")
    before, after = (pq.read_table(side.reference) for side in (theirs, project))
    both = [name for name in names if name in before.column_names]
    before, after = before.select(both), after.select(both)
    if before.equals(after):
        return dict.fromkeys(both, ("equal", 0.0))
    found = drift(*({name: side[name].to_numpy() for name in both} for side in (before, after)))
    return {name: (one.test, one.score) for name, one in found.items()}


def _image(project: Project, theirs: Project | None) -> dict[str, tuple[int, int | None]]:
    """Return the bytes of each part of the image, here and on the base branch."""
    before = image.sizes(theirs) if theirs else {}
    return {part: (size, before.get(part)) for part, size in image.sizes(project).items()}


def known(path: Path) -> Any:
    """Return a JSON file's content; None if there is no file. Raises LoopError if it is not valid JSON."""
    try:
        return read_json(path) if path.is_file() else None
    except ValueError as error:
        raise LoopError(
            f"{path}: is not JSON: {error}", fix="run the command that writes it again"
        ) from error


def _packages(before: Path, after: Path, package: str) -> list[tuple[str, str, str, str]]:
    """Return the changed packages in the locks that the model is trained and served with."""
    return locks.changes(before, after, ("requirements.lock", f"bentos/{package}/requirements.lock"))
