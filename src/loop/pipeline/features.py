"""Raw transactions to one row of features each: the same function for training and for whatever scores."""

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from loop.core import models, params
from loop.core.errors import LoopError
from loop.core.files import whole
from loop.core.models import ModelFolder
from loop.core.paths import ModelPaths
from loop.core.text import one_line


def compute(folder: ModelFolder, table: pa.Table, section: Any) -> pa.Table:
    """The model's features of `table`, on DuckDB in memory.

    Args:
        folder: the model.
        table: transactions with the columns of its schema.
        section: its features.Params.

    Returns:
        The columns that play a role, then the features as float64; by time, then id.

    Raises:
        LoopError: a feature explains the label, is no number, or is null or not finite, as no request may ask
            so either; or a column that plays a role is missing.
    """
    import duckdb
    import ibis  # here, as whoever compares two models' scores computes no features

    roles = folder.roles
    engine = ibis.duckdb.connect(threads=min(4, os.cpu_count() or 1))
    rows = folder.features.compute(ibis.memtable(table), section)
    features = [name for name in rows.columns if name not in roles.kept]
    where = f"src/models/{folder.name}/features.py"
    if leaks := [name for name in features if name in roles.never]:
        raise LoopError(f"{where}: {', '.join(leaks)} explains the label (ROLES.never)", fix="select it away")
    if lacking := [name for name in roles.kept if name not in rows.columns]:
        fix = "select it there: rows keep their id, time, entity and label"
        raise LoopError(f"{where}: `compute` gives no {', '.join(lacking)}", fix=fix)
    for name in features:
        if not ((kind := rows[name].type()).is_numeric() or kind.is_boolean()):
            raise LoopError(
                f"{where}: {name} is a column of {kind}, and a feature is a number",
                fix=f'encode it there, as in is_x=(rows["{name}"] == "x").cast("float64"), or select it away',
            )
    typed = rows.mutate(**{name: rows[name].cast("float64") for name in features})
    ordered = typed.select(*roles.kept, *features).order_by([name for name in (roles.time, roles.id) if name])
    try:
        made = engine.to_pyarrow(ordered).combine_chunks()  # its batches would show in the file
    except duckdb.Error as error:  # whatever the model's own expressions lead to
        raise LoopError(f"{where}: {one_line(error)}", fix="correct the expression there") from error
    _finite(folder, made, features)
    return made


def _finite(folder: ModelFolder, made: pa.Table, features: list[str]) -> None:
    """LoopError where a feature of some row is no number, naming the feature and the first such row."""
    for name in features:
        lacks = pc.invert(pc.fill_null(pc.is_finite(made[name]), False))
        if count := pc.sum(lacks).as_py():
            first = made.filter(lacks)[folder.roles.id][0].as_py()
            raise LoopError(
                f"src/models/{folder.name}/features.py: {name} is null or not finite in {count:,} of"
                f" {made.num_rows:,} rows, first where {folder.roles.id} is {first!r}",
                fix="fill it there, or let validate stop the rows that it comes from",
            )


def main(root: Path, model: str) -> None:
    """The stage: data/<package>/raw.parquet to features.parquet."""
    folder = models.load(root, model)
    section = folder.section("features", params.load(root, model).features)
    paths = ModelPaths(root, model)
    features = compute(folder, pq.read_table(paths.raw), section)
    with whole(paths.features) as aside:
        pq.write_table(features, aside)
    print(f"{features.num_rows:,} rows, {features.num_columns} columns")
