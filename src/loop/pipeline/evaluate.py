"""Measures the trained model on the test window: metrics, slices, scores and plots."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from loop.core import models, params
from loop.core.errors import LoopError
from loop.core.files import read_json, whole, write_json
from loop.core.models import ModelFolder, Roles
from loop.core.params import Evaluate
from loop.core.paths import ModelPaths
from loop.pipeline import plots, split
from loop.stats import bootstrap, calibration, classification, ranking

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


def score(folder: ModelFolder, trained: Path, table: pa.Table) -> pa.Table:
    """Score rows of features with the model in `trained`: id, time, entity, label, then the scores.

    One column `score` for a binary model, `score_<class>` for each class otherwise.
    """
    meta, roles = read_json(trained / "meta.json"), folder.roles
    scored = folder.estimator.load(trained)(split.matrix(table, meta["features"]))
    kept = [name for name in (roles.id, roles.time, roles.entity, roles.label) if name]
    columns = {name: table[name] for name in kept}
    return pa.table({**columns, **split.scores(folder, scored, table.num_rows, meta["classes"])})


def evaluate(
    roles: Roles, scored: pa.Table, rows: pa.Table, classes: list[Any], section: Evaluate
) -> dict[str, Any]:
    """metrics.json of scored test rows; `rows` are their features, which slices are cut from."""
    y, scores = split.numbers(scored[roles.label], classes), values(scored)
    if scores.ndim > 1:
        return multiclass(y, scores)
    if len(np.unique(y)) == 1:
        raise LoopError(f"the {len(y)} test rows are all labelled {classes[y[0]]}", fix="params.yaml: split")
    result = binary(y, scores, section.threshold)
    if roles.entity and roles.time:
        days = scored[roles.time].to_numpy().astype("datetime64[D]")
        found = ranking.card_precision(y, scores, scored[roles.entity].to_numpy(), days, section.top_k)
        result[f"card_precision_at_{section.top_k}"] = found
    return {**result, "slices": slices(y, scores, rows, section)}


def values(scored: pa.Table) -> Floats:
    """The scores of a scored table: (n,) of a binary model, else (n, classes)."""
    names = [name for name in scored.column_names if name == "score" or name.startswith("score_")]
    scores = split.matrix(scored, names)
    return scores[:, 0] if names == ["score"] else scores


def binary(y: Labels, scores: Floats, threshold: float) -> dict[str, Any]:
    """Ranking, decisions at the threshold, and calibration, of (n,) labels 0 or 1 and scores."""
    flagged = scores >= threshold
    precision, recall, f1 = classification.decisions(y, flagged)
    return {
        "rows": len(y),
        "positives": int(y.sum()),
        **ranked(y, scores),
        "accuracy": float(np.mean(flagged == y)),
        "f1": f1,
        "precision": precision,
        "recall": recall,
        "log_loss": classification.log_loss(y, scores),
        "brier": classification.brier(y, scores),
        "calibration_error": calibration.expected_error(y, scores),
    }


def ranked(y: Labels, scores: Floats) -> dict[str, float]:
    """How well (n,) scores put the positive rows before the others; labels of both classes."""
    once = np.ones(len(y), dtype=np.int64)
    return {name: bootstrap.prepare(name, y, scores)(once) for name in ("average_precision", "roc_auc")}


def multiclass(y: Labels, scores: Floats) -> dict[str, Any]:
    """Metrics of (n,) class numbers and (n, classes) scores; F1 is the mean over classes."""
    chosen = scores.argmax(axis=1)
    return {
        "rows": len(y),
        "accuracy": float(np.mean(chosen == y)),
        "f1": classification.macro_f1(y, chosen),
        "log_loss": classification.log_loss(y, scores),
    }


def slices(y: Labels, scores: Floats, rows: pa.Table, section: Evaluate) -> dict[str, Any]:
    """The metrics again for each part of the rows, by each feature of `evaluate.slices`."""
    if strange := [name for name in section.slices if name not in rows.column_names]:
        raise LoopError(f"params.yaml: evaluate.slices: {strange} are no features of this model")
    return {
        name: {
            part: _part(y[mask], scores[mask], section.threshold)
            for part, mask in parts(split.matrix(rows, [name])[:, 0]).items()
        }
        for name in section.slices
    }


def parts(column: Floats) -> dict[str, NDArray[np.bool_]]:
    """Cut a feature by its values when they are few, else into quarters of the rows: q1 is the lowest."""
    distinct = np.unique(column)
    if len(distinct) <= 4:  # noqa: PLR2004 — as many parts as quarters
        return {f"{value:g}": column == value for value in distinct}
    quarter = np.searchsorted(np.quantile(column, [0.25, 0.5, 0.75]), column, side="left")
    return {f"q{number + 1}": quarter == number for number in np.unique(quarter)}


def _part(y: Labels, scores: Floats, threshold: float) -> dict[str, Any]:
    """A slice's size and quality; ranking only where it has both classes."""
    out: dict[str, Any] = {"rows": len(y), "positives": int(y.sum())}
    out["accuracy"] = float(np.mean((scores >= threshold) == y))
    if 0 < out["positives"] < out["rows"]:
        out.update(ranked(y, scores))
    return out


def main(root: Path, model: str) -> None:
    """The stage: features.parquet and model/ to metrics.json, scores.parquet and plots/."""
    folder, section, paths = models.load(root, model), params.load(root, model), ModelPaths(root, model)
    table = pq.read_table(paths.features)
    rows = table.filter(pa.array(split.masks(table, folder.roles, section.split)[1]))
    if not rows.num_rows:
        raise LoopError(f"{paths.features}: no labelled row is in the test window", fix="params.yaml: split")
    meta = read_json(paths.trained / "meta.json")
    scored = score(folder, paths.trained, rows)
    result = evaluate(folder.roles, scored, rows, meta["classes"], section.evaluate)
    with whole(paths.scores) as aside:
        pq.write_table(scored, aside)
    for name, points in plots.draw(folder, paths.trained, rows, values(scored)).items():
        write_json(paths.plots / f"{name}.json", points)
    write_json(paths.metrics, result)
    print("\n".join(f"{name:22} {value:.4g}" for name, value in result.items() if name != "slices"))
