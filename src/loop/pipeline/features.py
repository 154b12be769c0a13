"""Raw transactions to one row of features each: the same function for training and for whatever scores."""

import os
from collections.abc import Sequence
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
        The columns that play a role, then the features; by time, then id. Numbers are float64. So are
        booleans, unless a text, bytes or a list is among the features.

    Raises:
        LoopError: a feature explains the label, has a type that no request can hold, is not finite, or is
            null without being named in MISSING; or a column that plays a role is missing.
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
    missing = getattr(folder.features, "MISSING", ())
    if strange := [name for name in missing if name not in features]:
        raise LoopError(
            f"{where}: MISSING names {', '.join(strange)}", fix=f"name some of {', '.join(features)}"
        )
    kinds = {name: rows[name].type() for name in features}
    for name, kind in kinds.items():
        if not (_plain(kind) or (kind.is_array() and _plain(kind.value_type))):
            raise LoopError(
                f"{where}: {name} is a column of {kind}, which no request can hold",
                fix="make it a number, a boolean, text, bytes or a list of them there, or select it away",
            )
    others = any(not (kind.is_numeric() or kind.is_boolean()) for kind in kinds.values())
    as_floats = [
        name
        for name, kind in kinds.items()
        if kind.is_numeric() or (kind.is_boolean() and (name in missing or not others))
    ]
    typed = rows.mutate(**{name: rows[name].cast("float64") for name in as_floats})
    ordered = typed.select(*roles.kept, *features).order_by([name for name in (roles.time, roles.id) if name])
    try:
        made = engine.to_pyarrow(ordered).combine_chunks()  # its batches would show in the file
    except duckdb.Error as error:  # whatever the model's own expressions lead to
        raise LoopError(f"{where}: {one_line(error)}", fix="correct the expression there") from error
    _check_values(folder, made, features, missing)
    return made


def _plain(kind: Any) -> bool:
    return bool(kind.is_numeric() or kind.is_boolean() or kind.is_string() or kind.is_binary())


def _check_values(folder: ModelFolder, made: pa.Table, features: list[str], missing: Sequence[str]) -> None:
    """LoopError where a feature of some row has no value, or an infinite one, naming the first such row."""
    for name in features:
        column = made[name]
        if pa.types.is_floating(column.type):
            good = pc.is_finite(column)
            lacks = pc.invert(
                pc.fill_null(pc.or_(good, pc.is_nan(column)) if name in missing else good, name in missing)
            )
        else:
            lacks = pc.is_null(column) if name not in missing else pa.array([False] * len(column))
        if count := pc.sum(lacks).as_py():
            first = made.filter(lacks)[folder.roles.id][0].as_py()
            raise LoopError(
                f"src/models/{folder.name}/features.py: {name} is null or not finite in {count:,} of"
                f" {made.num_rows:,} rows, first where {folder.roles.id} is {first!r}",
                fix="fill it there, let validate stop the rows that it comes from, or, if the estimator takes"
                f" gaps, name it in MISSING = ({name!r},) there",
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
