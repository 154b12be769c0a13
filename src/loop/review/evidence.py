"""Gathers the content of the report from the stages' outputs, the gate, and the base branch."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from loop.core import plain
from loop.core.dvc import DvcError, bring
from loop.core.errors import LoopError
from loop.core.files import read_json
from loop.core.models import Task
from loop.core.paths import environment
from loop.core.project import Project
from loop.monitoring.drift import Drift, drift, seen
from loop.packaging.key import sources
from loop.pipeline import evaluate, plots
from loop.pipeline.plots import Points
from loop.review import cluster
from loop.stats import bootstrap
from loop.stats.bootstrap import Interval
from loop.stats.metrics import Metric, Rows

# metrics to compare besides the gate's, if the task has them
COMPARED = ("average_precision", "roc_auc", "accuracy", "rmse", "mae")
# outputs of the base branch's stages to compare with
RESTORED = ("scores.parquet", "reference.parquet", "plots/importance.json")
SAMPLES = 300  # bootstrap resamples; enough for display, while the gate decides with its own number


@dataclass(frozen=True)
class Evidence:
    """Everything that the report shows of a candidate; unknown values are empty."""

    model: str
    metrics: dict[str, Any]
    base: dict[str, Any] = field(default_factory=dict)
    quality: dict[str, Any] = field(default_factory=dict)
    gate: dict[str, Any] | None = None
    scored: dict[str, Rows] = field(default_factory=dict)  # the test rows by model, the candidate's first
    # by (model, metric): the candidate's lead
    intervals: dict[tuple[str, str], Interval] = field(default_factory=dict)
    task: Task = "binary"
    importance: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    # by feature, from the base branch; None if the training data is equal
    drift: dict[str, Drift] | None = field(default_factory=dict)
    manifests: dict[str, list[str]] | None = None
    # by part of the image: bytes here, bytes on the base branch
    image: dict[str, tuple[int, int | None]] = field(default_factory=dict)
    packages: list[tuple[str, str, str, str]] = field(default_factory=list)

    def curves(self) -> dict[str, dict[str, Points]]:
        """Return the task's curves by their name in CURVES: the points of each model that was scored."""
        drawn = {who: plots.of(self.task, rows) for who, rows in self.scored.items()}
        names = drawn.get("candidate", ())
        return {name: {who: points[name] for who, points in drawn.items()} for name in names}


def gather(project: Project, theirs: Project | None) -> Evidence:
    """Read a candidate's evidence; `theirs` is a checkout of the base branch, if it is compared with one."""
    if theirs:
        _restore(theirs)
    meta = known(project.trained / "meta.json") or {}
    scored, before = _scored(project, theirs), sizes(theirs) if theirs else {}
    mine = ("requirements.lock", f"bentos/{project.package}/requirements.lock")
    return Evidence(
        model=project.public,
        task=meta.get("task", "binary"),
        metrics=known(project.metrics),
        base=known(theirs.metrics) or {} if theirs else {},
        quality=known(project.validation / "quality.json") or {},
        gate=known(project.build / "gate.json"),
        scored=scored,
        intervals=_intervals(project, scored),
        importance=_importance(project, theirs),
        drift=_drift(project, theirs),
        manifests=cluster.differences(theirs.root, project.root, project.model) if theirs else None,
        image={part: (size, before.get(part)) for part, size in sizes(project).items()},
        packages=cluster.packages(theirs.root, project.root, mine) if theirs else [],
    )


def _restore(theirs: Project) -> None:
    """Restore the base branch's scores, reference and importance, as far as DVC's cache or remote has them.

    Raises Rejected if a file differs from what the base's dvc.lock records.
    """
    for remote in (False, True):
        missing = [name for name in RESTORED if not (theirs.data / name).is_file()]
        if not missing or not (theirs.root / "dvc.lock").is_file():
            break
        with suppress(DvcError):  # the files that exist were restored; the report leaves out the others
            bring(theirs, *missing, remote=remote)


def _scored(project: Project, theirs: Project | None) -> dict[str, Rows]:
    """Return the test rows with the candidate's scores, and with those of other models for equal rows."""
    if not project.scores.is_file():
        return {}
    folder, rows = project.folder, pq.read_table(project.scores)
    classes = read_json(project.trained / "meta.json")["classes"]
    ours = evaluate.measurable(folder, rows, classes, project.params.evaluate)
    found = {"candidate": ours}
    others = {"champion": project.build / "champion.parquet", "base branch": theirs and theirs.scores}
    for who, path in others.items():
        if path and path.is_file() and _same_rows(rows, table := pq.read_table(path), folder.roles.id):
            found[who] = replace(ours, scores=evaluate.values(table))
    return found


def _same_rows(ours: pa.Table, theirs: pa.Table, key: str) -> bool:
    names = [name for name in ours.column_names if name.startswith("score")]
    return set(names) <= set(theirs.column_names) and bool(ours[key].equals(theirs[key]))


def _intervals(project: Project, scored: dict[str, Rows]) -> dict[tuple[str, str], Interval]:
    """Return the candidate's lead over each other model, by paired bootstrap over the same rows."""
    found = {}
    for who, theirs in scored.items():
        if who != "candidate":
            how = {"samples": SAMPLES, "confidence": project.params.gate.confidence}
            for metric in compared(project):
                found[who, metric.name] = bootstrap.difference(theirs, scored["candidate"], metric, **how)
    return found


def compared(project: Project) -> list[Metric]:
    """Return the metrics to compare two models by: the usual ones of the task, and the gate's."""
    known = evaluate.own(project.folder, project.params.evaluate).known(project.folder.task)
    names = dict.fromkeys((*COMPARED, project.params.gate.metric))
    return [known[name] for name in names if name in known]


def _importance(project: Project, theirs: Project | None) -> dict[str, list[dict[str, Any]]]:
    sides = {"candidate": project, "base branch": theirs}
    found = {who: known(side.plots / "importance.json") for who, side in sides.items() if side}
    return {who: points for who, points in found.items() if points}


def _drift(project: Project, theirs: Project | None) -> dict[str, Drift] | None:
    """Return how far each feature's training rows moved from the base branch's; None if they are equal."""
    if not theirs or not theirs.reference.is_file() or not project.reference.is_file():
        return {}
    names = seen(project.trained / "meta.json")
    before, after = (pq.read_table(side.reference) for side in (theirs, project))
    both = [name for name in names if name in before.column_names]
    before, after = before.select(both), after.select(both)
    if both and before.equals(after):
        return None
    return drift(*({name: side[name].to_numpy() for name in both} for side in (before, after)))


def known(path: Path) -> Any:
    """Return a JSON file's content; None if there is no file. Raises LoopError if it is not valid JSON."""
    try:
        return read_json(path) if path.is_file() else None
    except ValueError as error:
        fix = "run the command that writes it again"
        raise LoopError(f"{path}: is not JSON: {error}", fix=fix) from error


def sizes(project: Project) -> dict[str, int]:
    """Return the bytes of packages (installed from the bento's lock, without bytecode), code and model.

    The sizes are of the image that environment dev serves; empty if the tree has no bento of this model.
    Raises LoopError if the lock cannot be installed.
    """
    if not project.bento.is_dir():
        return {}
    device = plain.device(project)
    lock = project.root / plain.serving_lock(project.model, device)
    installed = (path for path in environment(lock).rglob("*") if path.suffix != ".pyc")
    found = {"packages": _bytes(installed), "code": _bytes(path for _, path in sources(project, device))}
    size = project.lock.model_size(project.model)  # None on the base branch of a new model
    return found if size is None else found | {"model": size}


def _bytes(paths: Iterable[Path]) -> int:
    return sum(path.stat().st_size for path in paths if path.is_file() and not path.is_symlink())
