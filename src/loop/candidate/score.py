"""Scores the same rows with champion and challenger, each with features from its own code."""

import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from loop.candidate.champion import own_loop
from loop.core import models, params
from loop.core.dvc import Lock, check
from loop.core.errors import LoopError
from loop.core.files import sha256, whole
from loop.core.models import ModelFolder
from loop.core.names import package, public
from loop.core.paths import ModelPaths
from loop.pipeline import evaluate, features


def score(root: Path, model: str, raw: Path, ids: Path, out: Path) -> None:
    """Score the rows whose ids are in `ids` with the code and model of `root`, and write the scores to `out`.

    Features are computed from `raw`. `out` has the columns of scores.parquet, in the order of `ids`. Raises
    LoopError if `raw` lacks an id.
    """
    check(root, model, ModelPaths(root, model).trained.name)
    folder = models.load(root, model)
    section = folder.section("features", params.load(root, model).features)
    rows = features.compute(folder, pq.read_table(raw), section)
    scored = _score(folder, ModelPaths(root, model).trained, rows, ids)
    with whole(out) as aside:
        pq.write_table(scored, aside)


def champion_scores(root: Path, model: str, tree: Path) -> pa.Table:
    """Return the champion's scores of the challenger's test rows; `tree` is a checkout of the champion.

    If both have equal code for features and training, the challenger's features are scored. Otherwise the
    champion's code computes features from the challenger's raw rows.
    """
    challenger, champion = ModelPaths(root, model), ModelPaths(tree, model)
    if same_code(root, tree, model):
        rows = pq.read_table(challenger.features)
        return _score(models.load(root, model), champion.trained, rows, challenger.scores)
    with tempfile.TemporaryDirectory(prefix="loop-score-") as scratch:
        out = Path(scratch) / "scores.parquet"
        inputs = ("--raw", str(challenger.raw), "--ids", str(challenger.scores), "--out", str(out))
        own_loop(tree, "score", public(model), *inputs)
        return pq.read_table(out)


def same_code(root: Path, tree: Path, model: str) -> bool:
    """Whether both checkouts have equal code, params and packages for features and training."""
    code = [_code(Lock.of(place), model) for place in (root, tree)]
    locks = ("requirements.lock", f"src/models/{package(model)}/requirements.lock")
    packages = [[sha256(place / lock) for lock in locks if (place / lock).exists()] for place in (root, tree)]
    return code[0] == code[1] and packages[0] == packages[1]


def _score(folder: ModelFolder, trained: Path, rows: pa.Table, ids: Path) -> pa.Table:
    """Score the rows that `ids` lists, in its order, with the model saved in `trained`.

    Raises LoopError if a row has no features.
    """
    key = folder.roles.id
    wanted = pq.read_table(ids, columns=[key])[key].combine_chunks()
    place = pc.index_in(wanted, value_set=rows[key].combine_chunks())
    if place.null_count:
        lost = wanted.filter(pc.is_null(place))[0]
        raise LoopError(f"{place.null_count} rows of {ids} have no features; the first has {key} {lost}")
    return evaluate.score(folder, trained, rows.take(place))


def _code(lock: Lock, model: str) -> dict[str, Any]:
    """Return the code's md5 of the stages features and train, and the params of features, from dvc.lock."""
    name = package(model)
    stages = {stage: lock.stages.get(f"{stage}@{name}", {}) for stage in ("features", "train")}
    code = {
        dep["path"]: dep["md5"]
        for entry in stages.values()
        for dep in entry.get("deps", [])
        if dep["path"].startswith(("src/", ".loop/"))
    }
    return {**code, "params": stages["features"].get("params")}
