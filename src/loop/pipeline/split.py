"""Which rows train, which test; features, labels and scores between tables and arrays."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from loop.core.errors import LoopError
from loop.core.models import VALUED, ModelFolder, Roles
from loop.core.params import PublishedSplit, RandomSplit, Split, TimeSplit
from loop.runtime.columns import Columns, Input
from loop.runtime.vectors import unit

Mask = NDArray[np.bool_]
SCORES = {  # what a scorer gives
    "binary": "give the probability of class 1",
    "multiclass": "give the probability of each class",
    "regression": "give one predicted value a row",
    "ranking": "give one number a row, higher for what is to stand first",
    "embedding": "give a vector a row, all of one length",
}
ROUNDED = 1e-6  # by which a float32 that stands for 1 may be above it


def masks(table: pa.Table, roles: Roles, split: Split) -> tuple[Mask, Mask]:
    """The rows to train on and the rows to test on; a row whose label is not known is in neither."""
    labelled = table[roles.label].is_valid().to_numpy()
    if isinstance(split, RandomSplit):
        train, test = _by_chance(table, roles, split)
    elif isinstance(split, PublishedSplit):
        train, test = _published(table, roles)
    else:
        train, test = _by_time(table, roles, split)
    return train & labelled, test & labelled


def _by_chance(table: pa.Table, roles: Roles, split: RandomSplit) -> tuple[Mask, Mask]:
    """A share of the rows is held out; where rows have an entity, all rows of a share of the entities.

    Name and seed alone decide, so rows that are added later move no earlier one to the other part.
    """
    from pandas.util import hash_array

    names = table[roles.entity or roles.id].cast(pa.string()).to_numpy()
    test: Mask = hash_array(names, hash_key=f"{split.seed:016d}"[-16:]) < np.uint64(int(split.test * 2**64))
    return ~test, test


def _published(table: pa.Table, roles: Roles) -> tuple[Mask, Mask]:
    """As the source says; rows of production's log, which say nothing, train."""
    if roles.part is None:
        raise LoopError("params.yaml: split.kind is `published`, but ROLES has no part", fix="kind: random")
    test: Mask = pc.equal(table[roles.part], "test").fill_null(False).to_numpy()
    train: Mask = pc.equal(table[roles.part], "train").fill_null(True).to_numpy()
    if not (test | train).all():
        strange = table[roles.part][int(np.flatnonzero(~(test | train))[0])].as_py()
        raise LoopError(
            f"the column {roles.part} has {strange!r}, expected train or test", fix="map it in source.py"
        )
    return train, test


def _by_time(table: pa.Table, roles: Roles, split: TimeSplit) -> tuple[Mask, Mask]:
    """Train, then a delay in which labels arrive, then test."""
    if roles.time is None:
        raise LoopError("params.yaml: split.kind is `time`, but ROLES has no time", fix="kind: random")
    time = table[roles.time].to_numpy()
    end = np.datetime64(split.until)
    begin = end - _days(split.test_days)
    trained = begin - _days(split.delay_days)
    train = (trained - _days(split.train_days) <= time) & (time < trained)
    return train, (begin <= time) & (time < end)


def features(table: pa.Table, roles: Roles) -> list[str]:
    """The columns of features.parquet that are features: all but those with a role."""
    return [name for name in table.column_names if name not in roles.kept]


def declared(table: pa.Table, names: list[str]) -> list[Input]:
    """The inputs of meta.json: one FP32 matrix where all features are numbers, otherwise one a feature."""
    types = {name: table[name].type for name in names}
    if all(map(_is_number, types.values())):
        return [Input("features", "FP32", (-1, len(names)))]
    return [_input(name, kind) for name, kind in types.items()]


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


def _input(name: str, kind: pa.DataType) -> Input:
    shape: tuple[int, ...] = (-1,)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        shape, kind = (-1, -1), kind.value_type
    for fits, datatype in (
        (pa.types.is_floating, "FP64"),
        (pa.types.is_integer, "INT64"),
        (pa.types.is_boolean, "BOOL"),
    ):
        if fits(kind):
            return Input(name, datatype, shape)
    encoded = pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    return Input(name, "BYTES", shape, {"content_type": "base64" if encoded else "str"})


def values(table: pa.Table, names: list[str]) -> NDArray[np.float64] | Columns:
    """What estimator and scorer take: (rows, names) of float64, or columns as a server makes them."""
    if all(_is_number(table[name].type) for name in names):
        return matrix(table, names)
    return {name: column(table[name]) for name in names}


def column(of: pa.ChunkedArray) -> NDArray[Any]:
    """(n,) of one feature: float64 with NaN for a gap, bool, or objects with None for a gap."""
    if pa.types.is_floating(of.type):
        return np.asarray(of.to_numpy(), dtype=np.float64)
    if pa.types.is_boolean(of.type):
        return np.asarray(of.to_numpy(), dtype=np.bool_)
    return np.fromiter(of.to_pylist(), dtype=object, count=len(of))


def matrix(table: pa.Table, names: list[str]) -> NDArray[np.float64]:
    """(rows, names) of float64; a null is nan."""
    return np.column_stack([table[name].to_numpy().astype(np.float64) for name in names])


def numbers(labels: pa.ChunkedArray, classes: list[Any]) -> NDArray[np.int64] | NDArray[np.float64]:
    """Labels as their positions in `classes`, or as float64 where a regression has no classes.

    LoopError for a label that is not in `classes`.
    """
    if not classes:
        return np.asarray(labels.to_numpy(), dtype=np.float64)
    positions = pc.index_in(labels, pa.array(classes, labels.type))
    if positions.null_count:
        strange = pc.unique(labels.filter(positions.is_null())).to_pylist()
        raise LoopError(f"labels {strange} are none of those trained on: {classes}", fix="train on them too")
    return np.asarray(positions, dtype=np.int64)


def scores(folder: ModelFolder, given: Any, rows: int, classes: list[Any]) -> dict[str, NDArray[np.float64]]:
    """What a model's scorer gave for `rows` as columns: `score`, or `score_<class>` for each of several.

    An embedding's vectors are one column `score`, (rows, d). LoopError where that is no probability, or
    predicted value, for each row: metrics of a ranking would take even a NaN.
    """
    where, scored = f"src/models/{folder.name}/scorer.py", np.asarray(given, dtype=np.float64)
    shape: tuple[int | str, ...] = (rows, len(classes)) if folder.task == "multiclass" else (rows,)
    if folder.task == "embedding":
        shape = (rows, scored.shape[1] or "d") if scored.ndim == 2 else (rows, "d")  # noqa: PLR2004
    if scored.shape != shape:
        raise LoopError(
            f"{where}: for {rows} rows the scorer gave an array of shape {scored.shape}, should be {shape}",
            fix=SCORES[folder.task],
        )
    if folder.task in VALUED:
        if (odd := scored[~np.isfinite(scored)]).size:
            raise LoopError(
                f"{where}: {odd.size} of {scored.size} predicted values are {odd[0]:g}",
                fix="give finite numbers",
            )
        return {"score": scored}
    if (odd := scored[~((scored >= 0) & (scored <= 1 + ROUNDED))]).size:
        raise LoopError(
            f"{where}: {odd.size} of {scored.size} scores are no probabilities, the first is {odd[0]:g}",
            fix="give probabilities from 0 to 1, not margins or log-odds, and none that is NaN",
        )
    if folder.task == "binary":
        return {"score": scored}
    return {f"score_{name}": scored[:, position] for position, name in enumerate(classes)}


def score_columns(table: pa.Table) -> list[str]:
    """The columns that `scores` makes, in a table that has others too."""
    return [name for name in table.column_names if name == "score" or name.startswith("score_")]


def similarities(
    folder: ModelFolder, vectors: NDArray[np.float64], pairs: pa.ChunkedArray | pa.Array
) -> NDArray[np.float64]:
    """(n,) cosine of the two rows of each row's pair; LoopError for an entity that has not two rows."""
    place = pc.rank(pairs, tiebreaker="dense").to_numpy() - 1
    counts = np.bincount(place)
    if len(odd := np.flatnonzero(counts != 2)):  # noqa: PLR2004 - a pair
        name = pairs[int(np.flatnonzero(place == odd[0])[0])].as_py()
        raise LoopError(
            f"data/{folder.name}/features.parquet: {len(odd)} of {len(counts)} pairs have not two rows; the"
            f" first is {folder.roles.entity} {name}, which has {counts[odd[0]]}",
            fix="an embedding is judged by pairs of rows: keep both in one part of the split, or drop both",
        )
    order = np.argsort(place, kind="stable").reshape(-1, 2)
    scaled, cosine = unit(vectors), np.empty(len(vectors))
    cosine[order] = (scaled[order[:, 0]] * scaled[order[:, 1]]).sum(axis=1)[:, None]
    return cosine


def _days(days: int) -> np.timedelta64:
    return np.timedelta64(days, "D")
