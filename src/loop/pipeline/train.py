"""Fits the model's estimator on the training window, and keeps a sample that drift is measured against."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from loop.core import models, params
from loop.core.errors import LoopError
from loop.core.files import whole, write_json
from loop.core.models import ModelFolder, Roles
from loop.core.params import RandomSplit, TimeSplit
from loop.core.paths import ModelPaths
from loop.pipeline import split

REFERENCE_ROWS = 20_000


def train(
    folder: ModelFolder,
    table: pa.Table,
    kind: TimeSplit | RandomSplit,
    section: Any,
    *,
    threshold: float,
    out: Path,
) -> pa.Table:
    """Fit on `table`'s training rows and write the model's folder to `out`.

    Args:
        folder: the model.
        table: features.parquet.
        kind: how rows are split.
        section: the model's estimator.Params.
        threshold: a score from here up is the positive class, for whoever serves it.
        out: a folder that does not exist yet.

    Returns:
        The reference: at most 20,000 training rows with their scores.
    """
    rows = table.filter(pa.array(split.masks(table, folder.roles, kind)[0]))
    meta = describe(folder, rows, threshold)
    x = split.matrix(rows, meta["features"])
    y = split.numbers(rows[folder.roles.label], meta["classes"])
    shares = dict(zip(meta["classes"], (np.bincount(y) / len(y)).tolist(), strict=True))
    print(f"{rows.num_rows:,} rows, " + ", ".join(f"{share:.2%} labelled {c}" for c, share in shares.items()))
    fitted = folder.estimator.fit(x, y, section)
    out.mkdir()
    write_json(out / "meta.json", meta)
    folder.estimator.save(fitted, out)
    return reference(folder, rows, x, meta["classes"], out)


def describe(folder: ModelFolder, rows: pa.Table, threshold: float) -> dict[str, Any]:
    """meta.json: what a scorer must know about the model. LoopError when a class is missing."""
    roles, names = folder.roles, split.features(rows, folder.roles)
    classes = sorted(pc.unique(rows[roles.label]).to_pylist())
    if len(classes) < 2 or (folder.task == "binary" and classes != [0, 1]):  # noqa: PLR2004 — nothing to tell apart
        raise LoopError(
            f"data/{folder.name}/features.parquet: the {rows.num_rows} training rows have labels {classes}",
            fix=f"params.yaml: models.{folder.name}.split must take in rows of every class (binary: 0 and 1)",
        )
    return {
        "name": folder.name,
        "task": folder.task,
        "features": names,
        "classes": classes,
        "threshold": threshold,
        "trained": {**_span(rows, roles), "rows": rows.num_rows},
        "example": split.matrix(rows.slice(0, 1), names)[0].tolist(),
    }


def _span(rows: pa.Table, roles: Roles) -> dict[str, str | None]:
    """First and last instant trained on, ISO; None for rows without time."""
    if roles.time is None:
        return {"from": None, "to": None}
    ends = pc.min_max(rows[roles.time]).as_py()
    return {"from": ends["min"].isoformat(), "to": ends["max"].isoformat()}


def reference(
    folder: ModelFolder, rows: pa.Table, x: NDArray[np.float64], classes: list[Any], out: Path
) -> pa.Table:
    """A seeded sample of the training rows: features, score, label; in their own order."""
    rng = np.random.default_rng(0)
    chosen = np.sort(rng.choice(rows.num_rows, min(REFERENCE_ROWS, rows.num_rows), replace=False))
    scored = split.scores(folder, folder.estimator.load(out)(x[chosen]), len(chosen), classes)
    sample = rows.take(chosen)
    columns = {name: sample[name] for name in split.features(rows, folder.roles)}
    return pa.table({**columns, **scored, folder.roles.label: sample[folder.roles.label]})


def main(root: Path, model: str) -> None:
    """The stage: features.parquet to model/ and reference.parquet."""
    started = time.perf_counter()
    folder, section, paths = models.load(root, model), params.load(root, model), ModelPaths(root, model)
    table = pq.read_table(paths.features)
    estimator = folder.section("estimator", section.train)
    with whole(paths.trained) as out, whole(paths.reference) as aside:
        sample = train(folder, table, section.split, estimator, threshold=section.evaluate.threshold, out=out)
        pq.write_table(sample, aside)
    print(f"trained in {time.perf_counter() - started:.1f} s")
