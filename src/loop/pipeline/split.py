"""Splits rows into training and test, and converts features, labels and scores between tables and arrays."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import types

from loop.core.errors import LoopError
from loop.core.models import VALUED, ModelFolder, Roles
from loop.core.params import PublishedSplit, RandomSplit, Split, TimeSplit
from loop.runtime.columns import Columns, Input
from loop.runtime.vectors import unit

Mask = NDArray[np.bool_]
ROUNDED = 1e-6  # tolerance above 1 for a probability that was rounded to float32


def masks(table: pa.Table, roles: Roles, split: Split) -> tuple[Mask, Mask]:
    """Return the masks of training rows and test rows; rows without a label are in neither."""
    check(roles, split)
    labelled = table[roles.label].is_valid().to_numpy()
    if isinstance(split, RandomSplit):
        train, test = _by_chance(table, roles, split)
    elif isinstance(split, PublishedSplit):
        train, test = _published(table, roles)
    else:
        train, test = _by_time(table, roles, split)
    return train & labelled, test & labelled


def check(roles: Roles, split: Split) -> None:
    """Raise LoopError if the split needs a column that has no role."""
    role = {"time": "time", "published": "part"}.get(split.kind)
    if role and getattr(roles, role) is None:
        said = f"params.yaml: split.kind is `{split.kind}`, but ROLES.{role} is None"
        raise LoopError(said, fix="set split.kind to random, or name the column in ROLES of schema.py")


def _by_chance(table: pa.Table, roles: Roles, split: RandomSplit) -> tuple[Mask, Mask]:
    """Hold out a random share of the rows or, if rows have an entity, of the entities with all their rows.

    A hash of name and seed decides, so rows that are added later do not move earlier rows between the parts.
    """
    from pandas.util import hash_array

    names = table[roles.entity or roles.id]
    names = (names if types.is_binary(names.type) else names.cast(pa.string())).to_numpy()
    test: Mask = hash_array(names, hash_key=f"{split.seed:016d}"[-16:]) < np.uint64(int(split.test * 2**64))
    return ~test, test


def _published(table: pa.Table, roles: Roles) -> tuple[Mask, Mask]:
    """Split as the source's `part` column says; logged rows of production have no part and are trained on."""
    test: Mask = pc.equal(table[roles.part], "test").fill_null(False).to_numpy()
    train: Mask = pc.equal(table[roles.part], "train").fill_null(True).to_numpy()
    if not (test | train).all():
        strange = table[roles.part][int(np.flatnonzero(~(test | train))[0])].as_py()
        fix = "convert it in source.py"
        raise LoopError(f"column {roles.part} has {strange!r}, expected train or test", fix=fix)
    return train, test


def _by_time(table: pa.Table, roles: Roles, split: TimeSplit) -> tuple[Mask, Mask]:
    """Split by time: training days, then a delay in which labels arrive, then test days."""
    time = table[roles.time].to_numpy()
    end, day = np.datetime64(split.until), np.timedelta64(1, "D")
    begin = end - split.test_days * day
    trained = begin - split.delay_days * day
    train = (trained - split.train_days * day <= time) & (time < trained)
    return train, (begin <= time) & (time < end)


def features(table: pa.Table, roles: Roles) -> list[str]:
    """Return the columns of features.parquet that are features, which are all columns without a role."""
    return [name for name in table.column_names if name not in roles.kept]


def declared(table: pa.Table, names: list[str]) -> list[Input]:
    """Return the inputs for meta.json: one FP32 matrix if all features are numbers, else one per feature."""
    if _all_numbers(table, names):
        return [Input("features", "FP32", (-1, len(names)))]
    return [_input(name, table[name].type) for name in names]


def _all_numbers(table: pa.Table, names: list[str]) -> bool:
    kinds = [table[name].type for name in names]
    return all(types.is_floating(kind) or types.is_integer(kind) for kind in kinds)


def _input(name: str, kind: pa.DataType) -> Input:
    shape: tuple[int, ...] = (-1,)
    if types.is_list(kind) or types.is_large_list(kind):
        shape, kind = (-1, -1), kind.value_type
    for fits, datatype in (
        (types.is_floating, "FP64"),
        (types.is_integer, "INT64"),
        (types.is_boolean, "BOOL"),
    ):
        if fits(kind):
            return Input(name, datatype, shape)
    encoded = types.is_binary(kind) or types.is_large_binary(kind)
    return Input(name, "BYTES", shape, {"content_type": "base64" if encoded else "str"})


def values(table: pa.Table, names: list[str]) -> NDArray[np.float64] | Columns:
    """Return the input of estimator and scorer: float64 of shape (rows, names), or a dict of columns."""
    if _all_numbers(table, names):
        return matrix(table, names)
    return {name: column(table[name]) for name in names}


def column(of: pa.ChunkedArray) -> NDArray[Any]:
    """Return one feature's values, shape (n,): float64 (missing: NaN), bool, or objects (missing: None)."""
    if types.is_floating(of.type):
        return np.asarray(of.to_numpy(), dtype=np.float64)
    if types.is_boolean(of.type):
        return np.asarray(of.to_numpy(), dtype=np.bool_)
    return np.fromiter(of.to_pylist(), dtype=object, count=len(of))


def matrix(table: pa.Table, names: list[str]) -> NDArray[np.float64]:
    """Return columns as float64 of shape (rows, names), with NaN for nulls."""
    return np.column_stack([table[name].to_numpy().astype(np.float64) for name in names])


def numbers(labels: pa.ChunkedArray, classes: list[Any]) -> NDArray[np.int64] | NDArray[np.float64]:
    """Return labels as positions in `classes`, or as float64 if `classes` is empty."""
    if not classes:
        return np.asarray(labels.to_numpy(), dtype=np.float64)
    positions = pc.index_in(labels, pa.array(classes, labels.type))
    if positions.null_count:
        strange = pc.unique(labels.filter(positions.is_null())).to_pylist()
        said = f"{positions.null_count:,} of {len(labels):,} rows have labels {strange}"
        fix = "correct them in the source, or train on them, too"
        raise LoopError(f"{said}, which were not trained on; expected {classes}", fix=fix)
    return np.asarray(positions, dtype=np.int64)


def scores(folder: ModelFolder, given: Any, rows: int, classes: list[Any]) -> dict[str, NDArray[np.float64]]:
    """Return a scorer's output as columns: `score`, or `score_<class>` for each of several classes.

    For an embedding, `score` has shape (rows, d). Raises LoopError if the output has another shape, or values
    that are not probabilities or finite numbers, because ranking metrics would accept even NaN.
    """
    where, fix = f"src/models/{folder.name}/scorer.py", f"return what docs/fork.md lists for {folder.task}"
    try:
        scored = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError) as error:  # such as the names of classes
        raise LoopError(f"{where}: the scorer returned no numbers: {error}", fix=fix) from error
    shape: tuple[int | str, ...] = (rows, len(classes)) if folder.task == "multiclass" else (rows,)
    if folder.task == "embedding":
        shape = (rows, scored.shape[1] or "d") if scored.ndim == 2 else (rows, "d")  # noqa: PLR2004
    if scored.shape != shape:
        raise LoopError(
            f"{where}: for {rows} rows the scorer returned shape {scored.shape}, expected {shape}",
            fix=fix,
        )
    right, good = "finite numbers", np.isfinite(scored)
    if folder.task not in VALUED:
        right, good = "probabilities from 0 to 1", (scored >= 0) & (scored <= 1 + ROUNDED)
    if (odd := scored[~good]).size:
        raise LoopError(
            f"{where}: {odd.size} of {scored.size} scores are not {right}, the first is {odd[0]:g}",
            fix=f"return {right}",
        )
    if folder.task == "multiclass":
        return {f"score_{name}": scored[:, position] for position, name in enumerate(classes)}
    return {"score": scored}


def score_columns(table: pa.Table) -> list[str]:
    """Return the names of a table's columns that `scores` made."""
    return [name for name in table.column_names if name == "score" or name.startswith("score_")]


def similarities(
    folder: ModelFolder, vectors: NDArray[np.float64], pairs: pa.ChunkedArray | pa.Array
) -> NDArray[np.float64]:
    """Return, for each row, the cosine similarity of the two rows of its pair; shape (n,).

    Raises LoopError for a pair that does not have exactly two rows.
    """
    place = pc.rank(pairs, tiebreaker="dense").to_numpy() - 1
    counts = np.bincount(place)
    if len(odd := np.flatnonzero(counts != 2)):  # noqa: PLR2004 - a pair
        name = pairs[int(np.flatnonzero(place == odd[0])[0])].as_py()
        raise LoopError(
            f"data/{folder.name}/features.parquet: {len(odd)} of {len(counts)} pairs lack two rows; the"
            f" first is {folder.roles.entity} {name} with {counts[odd[0]]}",
            fix="keep both rows of a pair in the same part of the split, or remove both",
        )
    order = np.argsort(place, kind="stable").reshape(-1, 2)
    scaled, cosine = unit(vectors), np.empty(len(vectors))
    cosine[order] = (scaled[order[:, 0]] * scaled[order[:, 1]]).sum(axis=1)[:, None]
    return cosine
