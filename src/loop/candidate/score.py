"""Scores the same rows with champion and challenger, each with features from its own code."""

import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from loop.candidate.champion import own_loop
from loop.core.dvc import check
from loop.core.errors import LoopError
from loop.core.files import sha256, whole
from loop.core.models import ModelFolder
from loop.core.project import Project
from loop.pipeline import evaluate, features


def score(project: Project, raw: Path, ids: Path, out: Path) -> None:
    """Score the rows whose ids are in `ids` with the model and its code, and write the scores to `out`.

    Features are computed from `raw`. `out` has the columns of scores.parquet, in the order of `ids`. Raises
    LoopError if `raw` lacks an id.
    """
    check(project, project.trained.name)
    folder = project.folder
    section = folder.section("features", project.params.features)
    rows = features.compute(folder, pq.read_table(raw), section)
    scored = _score(folder, project.trained, rows, ids)
    with whole(out) as aside:
        pq.write_table(scored, aside)


def champion_scores(project: Project, theirs: Project) -> pa.Table:
    """Return the champion's scores of the challenger's test rows; `theirs` is a checkout of the champion.

    If both have equal code for features and training, the challenger's features are scored. Otherwise the
    champion's code computes features from the challenger's raw rows.
    """
    if code(project) == code(theirs):
        rows = pq.read_table(project.features)
        return _score(project.folder, theirs.trained, rows, project.scores)
    with tempfile.TemporaryDirectory(prefix="loop-score-") as scratch:
        out = Path(scratch) / "scores.parquet"
        inputs = ("--raw", str(project.raw), "--ids", str(project.scores), "--out", str(out))
        own_loop(theirs.root, "score", project.public, *inputs)
        return pq.read_table(out)


def _score(folder: ModelFolder, trained: Path, rows: pa.Table, ids: Path) -> pa.Table:
    """Score the rows that `ids` lists, in its order. Raises LoopError if a row has no features."""
    key = folder.roles.id
    wanted = pq.read_table(ids, columns=[key])[key].combine_chunks()
    place = pc.index_in(wanted, value_set=rows[key].combine_chunks())
    if place.null_count:
        lost = wanted.filter(pc.is_null(place))[0]
        raise LoopError(f"{place.null_count} rows of {ids} have no features; the first has {key} {lost}")
    return evaluate.score(folder, trained, rows.take(place))


def code(project: Project) -> dict[str, Any]:
    """Return what is recorded of the code, params and packages of the stages features and train."""
    recorded = project.lock.stages
    stages = {stage: recorded.get(f"{stage}@{project.package}", {}) for stage in ("features", "train")}
    code = {
        dep["path"]: dep["md5"]
        for entry in stages.values()
        for dep in entry.get("deps", [])
        if dep["path"].startswith(("src/", ".loop/"))
    }
    locks = (project.root / "requirements.lock", project.source / "requirements.lock")
    packages = [sha256(lock) for lock in locks if lock.exists()]
    return {**code, "params": stages["features"].get("params"), "packages": packages}
