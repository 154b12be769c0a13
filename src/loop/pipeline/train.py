"""The stage train: fits the model's estimator, and keeps a sample of training rows as drift reference."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyarrow import types

from loop.core import actions
from loop.core.errors import LoopError
from loop.core.files import whole, write_json
from loop.core.models import VALUED, ModelFolder
from loop.core.params import Split
from loop.core.project import Project
from loop.pipeline import split
from loop.runtime import columns, vectors

REFERENCE_ROWS = 20_000


def train(
    folder: ModelFolder, table: pa.Table, kind: Split, section: Any, *, threshold: float | None, out: Path
) -> pa.Table:
    """Fit the model on the training rows of features.parquet and write it to `out`, a new folder.

    `section` is the model's estimator.Params. With the score `threshold`, which only binary models have, the
    server predicts class 1. Returns the reference: at most 20,000 training rows with their scores.
    """
    taken, test = split.masks(table, folder.roles, kind)
    labels = table[folder.roles.label]
    print(_counts(int(taken.sum()), int(test.sum()), labels))
    rows = table.filter(pa.array(taken))
    if not rows.num_rows:
        where = f"data/{folder.name}/features.parquet: the training part has no labelled row, expected some"
        raise LoopError(where, fix=f"change models.{folder.name}.split in params.yaml")
    meta = describe(folder, rows, threshold, labels)
    x = split.values(rows, meta["features"])
    y = split.numbers(rows[folder.roles.label], meta["classes"])
    print(_spread(y, meta["classes"]))
    fitted = folder.estimator.fit(x, y, section)
    out.mkdir()
    write_json(out / "meta.json", meta)
    folder.estimator.save(fitted, out)
    sample = reference(folder, rows, meta, out)
    if folder.task in VALUED:
        meta["score_edges"] = edges(sample["score"].to_numpy())
    write_json(out / "meta.json", meta)
    return sample


def _counts(train: int, test: int, labels: pa.ChunkedArray) -> str:
    """Return how many rows are for training and for the test, and how many are in neither part, and why."""
    windows = len(labels) - labels.null_count - train - test
    whys = {"without a label": labels.null_count, "outside the split's windows": windows}
    out = ", ".join(f"{count:,} {why}" for why, count in whys.items() if count)
    return f"{train:,} training rows, {test:,} test rows" + (f"; left out: {out}" if out else "")


def describe(
    folder: ModelFolder, rows: pa.Table, threshold: float | None, labels: pa.ChunkedArray
) -> dict[str, Any]:
    """Return meta.json, which describes the model. `labels` are those of all rows, not only of training.

    Raises LoopError if the labels do not fit the task. Warns if a feature has no value in any row.
    """
    names = split.features(rows, folder.roles)
    inputs, first = split.declared(rows, names), split.values(rows.slice(0, 1), names)
    ends = pc.min_max(rows[folder.roles.time]).as_py().values() if folder.roles.time else ()
    begin, end = [at.isoformat() for at in ends] or (None, None)
    missing = [name for name in names if name in getattr(folder.features, "MISSING", ())]
    for name in missing:
        if pc.all(pc.is_null(rows[name], nan_is_null=True)).as_py():
            actions.warning("Features", f"{name} is empty in all {rows.num_rows:,} training rows")
    return {
        "name": folder.name,
        "task": folder.task,
        "features": names,
        "inputs": [msgspec.to_builtins(each) for each in inputs],
        "missing": missing,
        "categories": {
            each.name: columns.categories(rows[each.name].to_pylist())
            for each in inputs
            if each.parameters.get("content_type") == "str" and not each.listed
        },
        "classes": _classes(folder, rows[folder.roles.label], labels),
        "threshold": threshold if folder.task == "binary" else None,
        "trained": {"from": begin, "to": end, "rows": rows.num_rows},
        "example": {each.name: each.json(first[each.name][0]) for each in inputs}
        if isinstance(first, dict)
        else [None if np.isnan(value) else value for value in first[0].tolist()],
    }


def _classes(folder: ModelFolder, labels: pa.ChunkedArray, everywhere: pa.ChunkedArray) -> list[Any]:
    """Return the classes; none if labels are numbers to predict. Raises LoopError for a wrong task."""
    found, schema = sorted(pc.unique(labels).to_pylist()), f"src/models/{folder.name}/schema.py"
    elsewhere = {*pc.unique(everywhere).to_pylist()} - {None}
    classes = [] if folder.task in VALUED else list(folder.classes or found)
    odd, fix = f"labels {found}, expected ", ""
    if folder.task in VALUED and not (types.is_integer(labels.type) or types.is_floating(labels.type)):
        odd = f"labels of type {labels.type}, but a {folder.task} needs numbers"
        fix = f"type {folder.roles.label} as float64 in {schema}"
    elif folder.task in VALUED and (len(found) < 2 or not np.isfinite(labels.to_numpy()).all()):  # noqa: PLR2004
        odd = f"labels {', '.join(map(str, found[:3]))}, expected different finite numbers"
    elif absent := {*classes} - {*found}:
        odd += f"all of CLASSES {classes}"
        if nowhere := sorted(absent - elsewhere):
            odd += f"; no row at all has {nowhere}"
            fix = f"remove {nowhere} from CLASSES in {schema}, or add such rows"
    elif folder.task == "binary" and not folder.classes and found != [0, 1]:
        odd += "0 and 1"
        two = f"set CLASSES = {tuple(found)} in {schema}; the score is the probability of the second"
        fix = {1: "", 2: two}.get(len(found), f"set TASK to multiclass in {schema}")
    elif len(found) == 1:
        odd += "several"
    else:
        return [found[found.index(each)] for each in classes]  # bool labels are True for 1
    if not fix and elsewhere <= {*found}:
        fix = "correct the labels in the source, as its other rows have no other label either"
    fix = fix or f"change params.yaml: models.{folder.name}.split, so that its training rows have all labels"
    where = f"data/{folder.name}/features.parquet: the {len(labels):,} training rows have"
    raise LoopError(f"{where} {odd}", fix=fix)


def _spread(y: NDArray[Any], classes: list[Any]) -> str:
    if not classes:
        low, middle, high = np.quantile(y, [0, 0.5, 1])
        return f"labels from {low:g} to {high:g}, median {middle:g}"
    shares = zip(classes, (np.bincount(y) / len(y)).tolist(), strict=True)
    return ", ".join(f"{share:.2%} labelled {name}" for name, share in shares)


def edges(predicted: NDArray[np.float64]) -> list[float]:
    """Return the upper bounds of a histogram of predicted values: 10 to 20 steps, 1st to 99th percentile.

    The bounds are multiples of a power of two. So two releases with similar predictions share at least every
    second bound, and the canary judge can compare their histograms.
    """
    low, high = np.quantile(predicted, [0.01, 0.99])
    wanted = max((high - low) / 20, max(abs(low), abs(high)) * 1e-9, 1e-12)
    step = 2.0 ** np.ceil(np.log2(wanted))
    return [float(step * number) for number in np.arange(np.floor(low / step), np.ceil(high / step) + 1)]


def reference(folder: ModelFolder, rows: pa.Table, meta: dict[str, Any], out: Path) -> pa.Table:
    """Return a seeded sample of the training rows, in order, with profile, score and label.

    The columns are those of the prediction log. So with several classes, `score` is the highest class score,
    and for an embedding it is the cosine to the sample's centre, which is added to `meta`.
    """
    rng = np.random.default_rng(0)
    chosen = np.sort(rng.choice(rows.num_rows, min(REFERENCE_ROWS, rows.num_rows), replace=False))
    sample = rows.take(chosen)
    x = split.values(sample, meta["features"])
    scorer = folder.scorer.load(out)
    scored = split.scores(folder, scorer(x), len(chosen), meta["classes"])
    scores = scored["score"] if "score" in scored else np.column_stack([*scored.values()])
    centre = vectors.centre(scores) if folder.task == "embedding" else None
    if centre is not None:
        meta["centre"] = centre.tolist()
    if hasattr(scorer, "profile"):
        seen = scorer.profile(x, scores)
        meta |= {"profile": [*seen], "categories": {}}  # no categories, so that no row's text is in meta.json
    elif isinstance(x, dict):
        seen = columns.numbers(x, meta["categories"])
    else:
        seen = {name: sample[name] for name in meta["features"]}
    return pa.table(
        {**seen, "score": vectors.marks(scores, centre), folder.roles.label: sample[folder.roles.label]}
    )


def main(project: Project) -> int:
    """Run the stage: read features.parquet, write model/ and reference.parquet; return the number of rows."""
    folder, section = project.folder, project.params
    table = pq.read_table(project.features)
    estimator = folder.section("estimator", section.train)
    with whole(project.trained) as out, whole(project.reference) as aside:
        sample = train(folder, table, section.split, estimator, threshold=section.evaluate.threshold, out=out)
        pq.write_table(sample, aside)
    return len(table)
