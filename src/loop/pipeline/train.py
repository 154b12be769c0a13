"""The stage train: fits the model's estimator, and keeps a sample of training rows as drift reference."""

import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

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
    rows = table.filter(pa.array(split.masks(table, folder.roles, kind)[0]))
    meta = describe(folder, rows, threshold)
    x = split.values(rows, meta["features"])
    y = split.numbers(rows[folder.roles.label], meta["classes"])
    print(f"{rows.num_rows:,} rows, {_spread(y, meta['classes'])}")
    fitted = folder.estimator.fit(x, y, section)
    out.mkdir()
    write_json(out / "meta.json", meta)
    folder.estimator.save(fitted, out)
    sample = reference(folder, rows, meta, out)
    if folder.task in VALUED:
        meta["score_edges"] = edges(sample["score"].to_numpy())
    write_json(out / "meta.json", meta)
    return sample


def describe(folder: ModelFolder, rows: pa.Table, threshold: float | None) -> dict[str, Any]:
    """Return meta.json, which describes the model. Raises LoopError if the labels do not fit the task."""
    names = split.features(rows, folder.roles)
    inputs, first = split.declared(rows, names), split.values(rows.slice(0, 1), names)
    ends = pc.min_max(rows[folder.roles.time]).as_py().values() if folder.roles.time else ()
    begin, end = [at.isoformat() for at in ends] or (None, None)
    return {
        "name": folder.name,
        "task": folder.task,
        "features": names,
        "inputs": [msgspec.to_builtins(each) for each in inputs],
        "missing": [name for name in names if name in getattr(folder.features, "MISSING", ())],
        "categories": {
            each.name: columns.categories(rows[each.name].to_pylist())
            for each in inputs
            if each.parameters.get("content_type") == "str" and not each.listed
        },
        "classes": _classes(folder, rows[folder.roles.label]),
        "threshold": threshold if folder.task == "binary" else None,
        "trained": {"from": begin, "to": end, "rows": rows.num_rows},
        "example": {each.name: each.json(first[each.name][0]) for each in inputs}
        if isinstance(first, dict)
        else [None if np.isnan(value) else value for value in first[0].tolist()],
    }


def _classes(folder: ModelFolder, labels: pa.ChunkedArray) -> list[Any]:
    """Return the classes; none if labels are numbers to predict. Raises LoopError for a wrong task."""
    found = sorted(pc.unique(labels).to_pylist())
    schema, odd = f"src/models/{folder.name}/schema.py", ""
    fix = f"change params.yaml: models.{folder.name}.split, so that its training rows have different labels"
    if folder.task in VALUED:
        classes = []
        if not (pa.types.is_integer(labels.type) or pa.types.is_floating(labels.type)):
            odd = f"labels of type {labels.type}, but a {folder.task} needs numbers"
            fix = f"type {folder.roles.label} as float64 in {schema}"
        elif not np.isfinite(labels.to_numpy()).all() or len(found) < 2:  # noqa: PLR2004 - one value
            odd = f"labels {', '.join(map(str, found[:3]))}, expected different finite numbers"
    elif folder.classes:
        classes = list(folder.classes)
        if strange := [label for label in found if label not in classes]:
            odd, fix = f"labels {strange}, which are not in CLASSES of {schema}", "add them there"
        elif len(found) < len(classes):
            odd = f"labels {found}, expected all of {classes}"
    else:
        classes = found
        if len(found) < 2 or (folder.task == "binary" and found != [0, 1]):  # noqa: PLR2004 — one class
            odd = f"labels {found}, expected {'0 and 1' if folder.task == 'binary' else 'several'}"
            two = f"set CLASSES = {tuple(found)} in {schema}; the score is the probability of the second"
            fix = {0: fix, 1: fix, 2: two}.get(len(found), f"set TASK to multiclass in {schema}")
    if odd:
        where = f"data/{folder.name}/features.parquet: the {len(labels)} training rows have"
        raise LoopError(f"{where} {odd}", fix=fix)
    return classes


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


def main(project: Project) -> None:
    """Run the stage: read features.parquet, write model/ and reference.parquet."""
    started = time.perf_counter()
    folder, section = project.folder, project.params
    table = pq.read_table(project.features)
    estimator = folder.section("estimator", section.train)
    with whole(project.trained) as out, whole(project.reference) as aside:
        sample = train(folder, table, section.split, estimator, threshold=section.evaluate.threshold, out=out)
        pq.write_table(sample, aside)
    print(f"trained in {time.perf_counter() - started:.1f} s")
