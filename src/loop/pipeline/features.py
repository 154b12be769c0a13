"""The stage features: computes one row of features per raw row, by the same function that serving uses."""

import os
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from loop.core.errors import LoopError
from loop.core.files import whole
from loop.core.models import ModelFolder
from loop.core.project import Project
from loop.core.text import one_line

if TYPE_CHECKING:
    import ibis.expr.types as ir


def compute(folder: ModelFolder, table: pa.Table, section: Any) -> pa.Table:
    """Compute the model's features of raw rows, with DuckDB in memory; `section` is its features.Params.

    Returns the columns with a role, then the features, ordered by time and id. Numbers are float64; booleans
    are too, unless a feature is text, bytes or a list. Raises LoopError if a feature reveals the label, has a
    type that no request can carry, is not finite, or is null without being named in MISSING; or if a column
    with a role is missing.
    """
    import duckdb
    import ibis

    engine = ibis.duckdb.connect(threads=min(4, os.cpu_count() or 1))
    ordered = planned(folder, table, section)
    try:
        # one chunk, so that the file's bytes are reproducible
        made = engine.to_pyarrow(ordered).combine_chunks()
    except duckdb.Error as error:  # the expressions in the model's features.py raise these errors
        said = f"src/models/{folder.name}/features.py: {one_line(error)}"
        raise LoopError(said, fix="correct the expression there") from error
    _check_values(folder, made)
    return made


def planned(folder: ModelFolder, table: pa.Table, section: Any) -> "ir.Table":
    """Return the expression that `compute` computes. Raises LoopError for what is wrong whatever the rows."""
    import ibis  # imported here because comparing two models' scores needs no features

    roles, where = folder.roles, f"src/models/{folder.name}/features.py"
    if strange := [name for name in getattr(folder.features, "FEATURES", ()) if name in roles.kept]:
        fix = "remove it there; if the model needs it, `compute` can select a copy by another name"
        raise LoopError(f"{where}: FEATURES names {', '.join(strange)}, which has a role", fix=fix)
    rows = folder.features.compute(ibis.memtable(table), section)
    features = [name for name in rows.columns if name not in roles.kept]
    if leaks := [name for name in features if name in roles.never]:
        fix = "do not select it"
        raise LoopError(f"{where}: {', '.join(leaks)} reveals the label (ROLES.never)", fix=fix)
    if "score" in features:
        raise LoopError(f"{where}: a feature is named score, as the model's scores are", fix="rename it")
    if lacking := [name for name in roles.kept if name not in rows.columns]:
        fix = "select it there: rows must keep their id, time, entity and label"
        raise LoopError(f"{where}: `compute` returns no {', '.join(lacking)}", fix=fix)
    missing = getattr(folder.features, "MISSING", ())
    if strange := [name for name in missing if name not in features]:
        fix = f"name one of {', '.join(features)}"
        raise LoopError(f"{where}: MISSING names {', '.join(strange)}, which is not a feature", fix=fix)
    kinds = {name: rows[name].type() for name in features}
    for name, kind in kinds.items():
        one = kind.value_type if kind.is_array() else kind
        if not (one.is_numeric() or one.is_boolean() or one.is_string() or one.is_binary()):
            fix = "make it a number, a boolean, text, bytes or a list of them there, or do not select it"
            raise LoopError(f"{where}: {name} is a column of {kind}, which no request can carry", fix=fix)
    others = any(not (kind.is_numeric() or kind.is_boolean()) for kind in kinds.values())
    as_floats = [
        name
        for name, kind in kinds.items()
        if kind.is_numeric() or (kind.is_boolean() and (name in missing or not others))
    ]
    typed = rows.mutate(**{name: rows[name].cast("float64") for name in as_floats})
    by = [name for name in (roles.time, roles.id) if name]
    return typed.select(*roles.kept, *features).order_by(by)


def _check_values(folder: ModelFolder, made: pa.Table) -> None:
    """Raise LoopError, naming the first row, if a feature is infinite, or null without being in MISSING."""
    missing = getattr(folder.features, "MISSING", ())
    for name in [name for name in made.column_names if name not in folder.roles.kept]:
        column = made[name]
        lacks = pc.and_(pc.is_null(column, nan_is_null=True), pa.scalar(name not in missing))
        if pa.types.is_floating(column.type):
            lacks = pc.or_(lacks, pc.is_inf(column).fill_null(False))
        if count := pc.sum(lacks).as_py():
            first = made.filter(lacks)[folder.roles.id][0].as_py()
            raise LoopError(
                f"src/models/{folder.name}/features.py: {name} is null or not finite in {count:,} of"
                f" {made.num_rows:,} rows, first where {folder.roles.id} is {first!r}",
                fix="fill it there, reject such rows by a check in validate, or, if the estimator accepts"
                f" missing values, list it there in MISSING = ({name!r},)",
            )


def main(project: Project) -> int:
    """Run the stage: read data/<package>/raw.parquet, write features.parquet. Returns the number of rows."""
    folder = project.folder
    section = folder.section("features", project.params.features)
    raw = pq.read_table(project.raw)
    features = compute(folder, raw, section)
    with whole(project.features) as aside:
        pq.write_table(features, aside)
    lost = raw.num_rows - features.num_rows
    out = f"; features.py leaves out {lost:,} rows" if lost > 0 else ""
    print(f"{features.num_rows:,} rows, {features.num_columns} columns{out}")
    return len(features)
