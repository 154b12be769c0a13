"""The stage evaluate: measures the trained model on the test rows and writes metrics, scores and plots."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from loop.core.errors import LoopError
from loop.core.files import read_json, whole, write_json
from loop.core.models import COMPARED, ModelFolder, Task, failure
from loop.core.params import Evaluate, Model
from loop.core.project import Project
from loop.pipeline import plots, split
from loop.runtime.columns import categories
from loop.stats import metrics
from loop.stats.evaluation import Evaluation, Rows

Floats = NDArray[np.float64]
PARTS = 8  # number of most frequent values by which a text feature is sliced


def score(folder: ModelFolder, trained: Path, table: pa.Table) -> pa.Table:
    """Score rows of features with the model in `trained`; returns id, time, entity, label and the scores.

    The scores are one column `score`, or `score_<class>` for each of several classes. For an embedding,
    `score` is the cosine similarity of the row's pair, and `embedding` the row's vector.
    """
    meta, roles = read_json(trained / "meta.json"), folder.roles
    scored = folder.scorer.load(trained)(split.values(table, meta["features"]))
    columns = {name: table[name] for name in roles.kept}
    scores = split.scores(folder, scored, table.num_rows, meta["classes"])
    if folder.task == "embedding":
        vectors = scores["score"]
        cosine = split.similarities(folder, vectors, table[roles.entity])
        return pa.table({**columns, "score": cosine, "embedding": pa.array([*vectors])})
    return pa.table({**columns, **scores})


def own(folder: ModelFolder, section: Evaluate) -> Evaluation:
    """Return the metrics, unit and protocol that the model's own evaluation module adds."""
    found: Evaluation = folder.evaluation.evaluation(folder.section("evaluation", section.protocol))
    # These tasks' metrics compare rows of one entity with each other, so the bootstrap draws whole entities.
    return replace(found, unit=folder.roles.entity) if folder.task in COMPARED else found


def evaluate(
    folder: ModelFolder, scored: pa.Table, rows: pa.Table, classes: list[Any], section: Evaluate
) -> dict[str, Any]:
    """Return the contents of metrics.json for scored test rows; `rows` holds the features that slices use.

    Raises LoopError if the labels do not allow a metric, for example if all are the same.
    """
    judged = measurable(folder, scored, classes, section)
    result: dict[str, Any] = {"rows": len(judged.labels)}
    if folder.task == "binary":
        result["positives"] = int(judged.labels.sum())
    try:
        result |= {name: each.of(judged) for name, each in own(folder, section).known(folder.task).items()}
    except ValueError as error:
        said = f"data/{folder.name}/features.parquet: the {len(judged.labels)} test rows: {error}"
        said += f" (0 stands for {classes[0]!r})" if classes not in ([], [0, 1]) else ""
        fix = f"correct the labels, or change models.{folder.name}.split in params.yaml"
        raise failure(folder.root, error) or LoopError(said, fix=fix) from error
    return {**result, "slices": slices(judged, rows, section, folder)}


def measurable(folder: ModelFolder, scored: pa.Table, classes: list[Any], section: Evaluate) -> Rows:
    """Return a scored table as the metrics of its model take it, with class numbers for labels."""
    labels, units = split.numbers(scored[folder.roles.label], classes), own(folder, section).units(scored)
    threshold = 0.5 if section.threshold is None else section.threshold  # None unless the task is binary
    return Rows(labels, values(scored), threshold, scored, units=units)


def check(folder: ModelFolder, section: Model) -> None:
    """Raise LoopError if a metric, threshold, unit or split needs what the task or the roles lack."""
    split.check(folder.roles, section.split)
    mine = own(folder, section.evaluate)
    if (folder.task == "binary") != (section.evaluate.threshold is not None):
        said = f"params.yaml: models.{folder.name}.evaluate.threshold: is {section.evaluate.threshold}"
        expected = f"null, because a {folder.task} model has no threshold"
        if folder.task == "binary":
            expected = "a score from 0 to 1, from which a binary model predicts class 1"
        raise LoopError(f"{said}, expected {expected}", fix="set the expected value")
    if mine.unit and mine.unit not in folder.roles.kept:
        said = f"unit is {mine.unit!r}, which is not a column of scores.parquet"
        fix = f"name one of {', '.join(folder.roles.kept)}"
        raise LoopError(f"src/models/{folder.name}/evaluation.py: {said}", fix=fix)
    tested = mine.known(folder.task)
    live = {} if folder.task in COMPARED else metrics.of(folder.task)
    add = f", or add it to src/models/{folder.name}/evaluation.py"
    for key, names, known, where, other in (
        ("gate.metric", [section.gate.metric], tested, "for this model", add),
        ("gate.floors", section.gate.floors, tested, "for this model", add),
        ("sla.metrics", section.sla.metrics, live, "in production", ""),  # the prediction log has no entities
    ):
        if strange := sorted(set(names) - known.keys()):
            said = f"params.yaml: models.{folder.name}.{key}: {', '.join(strange)} is not measured {where}"
            fix = f"name one of {', '.join(known)}{other}" if known else "remove it"
            raise LoopError(said, fix=fix)


def values(scored: pa.Table) -> Floats:
    """Return the scores of a scored table: shape (n,) for a single score column, else (n, classes)."""
    names = split.score_columns(scored)
    scores = split.matrix(scored, names)
    return scores[:, 0] if names == ["score"] else scores


def check_slices(folder: ModelFolder, rows: pa.Table, section: Evaluate) -> None:
    """Raise LoopError if a slice names no column of the rows of features."""
    if strange := [name for name in section.slices if name not in rows.column_names]:
        raise LoopError(
            f"params.yaml: models.{folder.name}.evaluate.slices: {', '.join(strange)} is not a feature",
            fix=f"name one of {', '.join(split.features(rows, folder.roles))}",
        )


def slices(judged: Rows, rows: pa.Table, section: Evaluate, folder: ModelFolder) -> dict[str, Any]:
    """Return metrics for each part of the rows, by each feature in `evaluate.slices`."""
    check_slices(folder, rows, section)
    return {
        name: {
            part: _part(judged.take(np.flatnonzero(mask)), folder.task)
            for part, mask in parts(split.column(rows[name])).items()
        }
        for name in section.slices
    }


def parts(column: NDArray[Any]) -> dict[str, NDArray[np.bool_]]:
    """Return a row mask for each part of a feature: its values if few, else quartiles (q1 is lowest).

    A text feature is split by its most frequent values; rows with other values and rows without a value each
    form one more part.
    """
    if column.dtype == object:
        frequent = categories((value for value in column if isinstance(value, str)), PARTS)
        named = {text: column == text for text in frequent}
        gaps = np.array([value is None for value in column])
        named |= {"(none)": gaps, "(others)": ~np.any([gaps, *named.values()], axis=0)}
        return {text: mask for text, mask in named.items() if mask.any()}
    column = column.astype(np.float64)
    gaps = np.isnan(column)
    distinct = np.unique(column[~gaps])
    if len(distinct) <= 4:  # noqa: PLR2004 — as many parts as quarters
        named = {f"{value:g}": column == value for value in distinct}
    else:
        quarter = np.searchsorted(np.quantile(column[~gaps], [0.25, 0.5, 0.75]), column, side="left")
        named = {f"q{number + 1}": (quarter == number) & ~gaps for number in np.unique(quarter[~gaps])}
    return {**named, "(none)": gaps} if gaps.any() else named


def _part(judged: Rows, task: Task) -> dict[str, Any]:
    """Return a slice's size and metrics, without those its rows do not allow, such as AUC of one class."""
    found: dict[str, Any] = {"rows": len(judged.labels)}
    if task == "binary":
        found["positives"] = int(judged.labels.sum())
    for name in metrics.SLICED[task]:
        with suppress(ValueError):
            found[name] = metrics.of(task)[name].of(judged)
    return found


def main(project: Project) -> int:
    """Run the stage: read features.parquet and model/, write metrics.json, scores.parquet and plots/.

    Returns the number of test rows.
    """
    folder, section = project.folder, project.params
    table = pq.read_table(project.features)
    test = split.masks(table, folder.roles, section.split)[1]
    if leaves_out := own(folder, section.evaluate).leaves_out:
        out = test & leaves_out(table, section.split)
        print(f"{out.sum():,} of {test.sum():,} test rows are left out by evaluation.py")
        test &= ~out
    rows = table.filter(pa.array(test))
    if not rows.num_rows:
        fix = f"change models.{folder.name}.split in params.yaml"
        raise LoopError(f"{project.features}: the test window has no labelled row, expected some", fix=fix)
    meta = read_json(project.trained / "meta.json")
    scored = score(folder, project.trained, rows)
    result = evaluate(folder, scored, rows, meta["classes"], section.evaluate)
    with whole(project.scores) as aside:
        pq.write_table(scored, aside)
    plots.write(project.plots, *plots.draw(folder, project.trained, rows, values(scored)))
    write_json(project.metrics, result)
    print("\n".join(f"{name:22} {value:.4g}" for name, value in result.items() if name != "slices"))
    return len(rows)
