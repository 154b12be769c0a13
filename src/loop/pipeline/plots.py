"""What `dvc plots` shows of a model: curves as points, few enough for an eye and a diff."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from loop.core.files import read_json
from loop.core.models import ModelFolder
from loop.pipeline import split
from loop.stats import calibration, classification
from loop.stats.metrics import LOG_LOSS, Rows

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]
Points = list[dict[str, Any]]
POINTS = 500
SHUFFLED_ROWS = 20_000


def draw(folder: ModelFolder, trained: Path, rows: pa.Table, scores: Floats) -> dict[str, Points]:
    """Every plot of a model's scores of `rows`; of several classes, each class against the rest, pooled."""
    meta = read_json(trained / "meta.json")
    y = split.numbers(rows[folder.roles.label], meta["classes"])
    true, score = y, scores
    if scores.ndim > 1:
        true, score = np.eye(scores.shape[1], dtype=np.int64)[y].ravel(), scores.ravel()
    false_rate, true_rate = classification.roc_curve(true, score)
    precision, recall = classification.precision_recall_curve(true, score)
    observed = calibration.curve(true, score)
    x = split.matrix(rows, meta["features"])
    return {
        "roc": thin(false_positive_rate=false_rate, true_positive_rate=true_rate),
        "precision_recall": thin(recall=recall, precision=precision),
        "calibration": thin(predicted=observed.predicted, observed=observed.observed),
        "importance": importance(folder.estimator.load(trained), x, y, meta["features"]),
    }


def thin(**columns: Floats) -> Points:
    """A curve as at most 500 points, evenly spaced along its length."""
    x, y = columns.values()
    length = np.append(0, np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y))))
    kept = np.unique(np.searchsorted(length, np.linspace(0, length[-1], POINTS)))
    rounded = (np.round(column[kept], 6).tolist() for column in (x, y))
    return [dict(zip(columns, pair, strict=True)) for pair in zip(*rounded, strict=True)]


def importance(scorer: Callable[[Floats], Floats], x: Floats, y: Labels, names: list[str]) -> Points:
    """How much the log loss rises when a feature's values are shuffled between rows (Breiman 2001).

    It asks nothing of the estimator but scores, so that models of any kind compare. Largest first.
    """
    rng = np.random.default_rng(0)
    rows = rng.permutation(len(y))[:SHUFFLED_ROWS]
    x, y = x[rows], y[rows]
    before = LOG_LOSS.of(Rows(y, scorer(x)))
    rises = {}
    for position, name in enumerate(names):
        shuffled = x.copy()
        shuffled[:, position] = rng.permutation(x[:, position])
        rises[name] = LOG_LOSS.of(Rows(y, scorer(shuffled))) - before
    ranked = sorted(rises.items(), key=lambda item: -item[1])
    return [{"feature": name, "rise_of_log_loss": round(rise, 6)} for name, rise in ranked]
