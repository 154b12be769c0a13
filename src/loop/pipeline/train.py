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
from loop.core.models import VALUED, ModelFolder, Roles
from loop.core.params import Split
from loop.core.project import Project
from loop.pipeline import split
from loop.runtime import columns, vectors

REFERENCE_ROWS = 20_000
SPLIT = "change params.yaml: models.{}.split, so that its training rows have different labels"


def train(
    folder: ModelFolder,
    table: pa.Table,
    kind: Split,
    section: Any,
    *,
    threshold: float | None,
    out: Path,
) -> pa.Table:
    """Fit the model on `table`'s training rows and write it to the folder `out`.

    Args:
        folder: the model.
        table: features.parquet.
        kind: how rows are split.
        section: the model's estimator.Params.
        threshold: the score from which the server predicts class 1; only for binary models.
        out: a folder that does not exist yet.

    Returns:
        The reference: at most 20,000 training rows with their scores.
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
        "trained": {**_span(rows, folder.roles), "rows": rows.num_rows},
        "example": {each.name: each.json(first[each.name][0]) for each in inputs}
        if isinstance(first, dict)
        else [None if np.isnan(value) else value for value in first[0].tolist()],
    }


def _classes(folder: ModelFolder, labels: pa.ChunkedArray) -> list[Any]:
    """Return the classes; none if labels are numbers to predict. Raises LoopError for a wrong task."""
    found = sorted(pc.unique(labels).to_pylist())
    where = f"data/{folder.name}/features.parquet: the {len(labels)} training rows have"
    if folder.task in VALUED:
        if not (pa.types.is_integer(labels.type) or pa.types.is_floating(labels.type)):
            fix = f"type {folder.roles.label} as float64 in src/models/{folder.name}/schema.py"
            raise LoopError(
                f"{where} labels of type {labels.type}, but a {folder.task} needs numbers", fix=fix
            )
        if not np.isfinite(labels.to_numpy()).all() or len(found) < 2:  # noqa: PLR2004 - one value
            shown = ", ".join(map(str, found[:3]))
            raise LoopError(
                f"{where} labels {shown}, expected different finite numbers", fix=SPLIT.format(folder.name)
            )
        return []
    schema = f"src/models/{folder.name}/schema.py"
    if said := folder.classes:
        if strange := [label for label in found if label not in said]:
            raise LoopError(
                f"{where} labels {strange}, which are not in CLASSES of {schema}", fix="add them there"
            )
        if len(found) < len(said):
            raise LoopError(
                f"{where} labels {found}, expected all of {list(said)}", fix=SPLIT.format(folder.name)
            )
        return list(said)
    if len(found) < 2 or (folder.task == "binary" and found != [0, 1]):  # noqa: PLR2004 — one class
        fix, expected = SPLIT.format(folder.name), "0 and 1" if folder.task == "binary" else "several"
        if len(found) == 2:  # noqa: PLR2004 - two classes, but not 0 and 1
            fix = f"set CLASSES = {tuple(found)} in {schema}; the score is the probability of the second"
        elif len(found) > 1:
            fix = f"set TASK to multiclass in {schema}"
        raise LoopError(f"{where} labels {found}, expected {expected}", fix=fix)
    return found


def _spread(y: NDArray[Any], classes: list[Any]) -> str:
    """Describe the labels of the training rows in a few words."""
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


def _span(rows: pa.Table, roles: Roles) -> dict[str, str | None]:
    """Return the first and last time trained on, in ISO format; None for rows without time."""
    if roles.time is None:
        return {"from": None, "to": None}
    ends = pc.min_max(rows[roles.time]).as_py()
    return {"from": ends["min"].isoformat(), "to": ends["max"].isoformat()}


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
