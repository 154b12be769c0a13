"""Makes the data of `dvc plots`: curves as points, few enough to plot quickly and to compare in a diff."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from loop.core.files import read_json, whole, write_json
from loop.core.models import COMPARED, ModelFolder, Task
from loop.pipeline import split
from loop.runtime.columns import Columns, take
from loop.stats import curves
from loop.stats.metrics import LOSS, Metric, Rows, ndcg

Floats = NDArray[np.float64]
Points = list[dict[str, Any]]
POINTS, BINS, BIN_ROWS, PLACES = 500, 20, 20, 20
SHUFFLED_ROWS = 20_000


class Curve(NamedTuple):
    """The title and axes of a curve in plots/curves/."""

    title: str
    x: str
    y: str
    diagonal: bool  # whether to draw the diagonal as a guide


CURVES = {
    "roc": Curve("ROC", "false positive rate", "true positive rate", diagonal=True),
    "precision_recall": Curve("Precision and recall", "recall", "precision", diagonal=False),
    "calibration": Curve("Calibration", "predicted", "observed", diagonal=True),
    "predicted": Curve("Predicted and true values", "mean prediction", "mean label", diagonal=True),
    "errors": Curve("Size of the errors", "share of the rows", "error at most", diagonal=False),
    "similarity": Curve("Similarity and label", "mean cosine", "mean label", diagonal=False),
    "gain": Curve("Gain of the first places", "places", "NDCG", diagonal=False),
}


def draw(
    folder: ModelFolder, trained: Path, rows: pa.Table, scores: Floats
) -> tuple[dict[str, Points], Points]:
    """Return the curves of a model's scores, keyed as in CURVES, and the importance of its features."""
    meta = read_json(trained / "meta.json")
    y = split.numbers(rows[folder.roles.label], meta["classes"])
    x = split.values(rows, meta["features"])
    scorer = folder.scorer.load(trained)
    units = rows[folder.roles.entity].to_numpy() if folder.task in COMPARED else None

    def score(some: Any, of: NDArray[Any] | None) -> Floats:
        given = scorer(some)
        return split.similarities(folder, given, pa.array(of)) if folder.task == "embedding" else given

    important = importance(score, x, y, meta["features"], LOSS[folder.task], units=units)
    return of(folder.task, Rows(y, scores, units=units)), important


def of(task: Task, rows: Rows) -> dict[str, Points]:
    """Return the curves of scored rows, keyed as in CURVES."""
    match task:
        case "ranking":
            places = np.arange(1, PLACES + 1)
            gains = [Metric("", partial(ndcg, k=k)).of(rows) for k in places.tolist()]
            return {"gain": thin(places, np.array(gains))}
        case "embedding":
            return {"similarity": of_values(rows.labels, rows.scores)["predicted"]}
        case "regression":
            return of_values(rows.labels, rows.scores)
        case _:
            labels, scores = rows.labels, rows.scores
            if scores.ndim > 1:  # several classes are pooled, each class against the rest
                labels, scores = np.eye(scores.shape[1], dtype=np.int64)[labels].ravel(), scores.ravel()
            precision, recall = curves.precision_recall(labels, scores)
            observed = curves.calibration(labels, scores)
            return {
                "roc": thin(*curves.roc(labels, scores)),
                "precision_recall": thin(recall, precision),
                "calibration": thin(observed.predicted, observed.observed),
            }


def of_values(y: NDArray[Any], scores: Floats) -> dict[str, Points]:
    """Return a regression's mean label by mean prediction, in bins, and the distribution of its errors."""
    bins = min(BINS, max(len(y) // BIN_ROWS, 1))
    parts = np.array_split(np.argsort(scores, kind="stable"), bins)
    means = ([side[part].mean() for part in parts] for side in (scores, y))
    sizes = np.append(0, np.sort(np.abs(scores - y)))
    return {"predicted": thin(*map(np.array, means)), "errors": thin(np.linspace(0, 1, len(sizes)), sizes)}


def write(folder: Path, drawn: dict[str, Points], important: Points) -> None:
    """Write the curves and the importance to a folder, as the plots of dvc.yaml expect."""
    with whole(folder / "curves") as aside:
        aside.mkdir()
        for name, points in drawn.items():
            write_json(aside / f"{name}.json", points)
    write_json(folder / "importance.json", important)


def thin(x: NDArray[Any], y: Floats) -> Points:
    """Reduce a curve to at most 500 points {x, y}, evenly spaced along its length."""
    steps = (np.abs(np.diff(side)) / (np.ptp(side) or 1) for side in (x, y))
    length = np.append(0, np.cumsum(sum(steps)))
    kept = np.unique(np.searchsorted(length, np.linspace(0, length[-1], POINTS)))
    rounded = ([float(f"{value:.6g}") for value in side[kept]] for side in (x, y))
    return [{"x": across, "y": up} for across, up in zip(*rounded, strict=True)]


def importance(
    scorer: Callable[[Any, NDArray[Any] | None], Floats],
    x: Floats | Columns,
    y: NDArray[Any],
    names: list[str],
    loss: Metric,
    *,
    units: NDArray[Any] | None = None,
) -> Points:
    """Return each feature's importance, largest first: the rise of a loss when its values are shuffled.

    This is permutation importance (Breiman 2001), which needs only scores, so models of any kind can be
    compared. `scorer` takes rows and their units; rows of one unit stay together.
    """
    rng = np.random.default_rng(0)
    if units is None:
        rows = rng.permutation(len(y))[:SHUFFLED_ROWS]
    else:
        place = np.unique(units, return_inverse=True)[1]
        rows = np.argsort(rng.permutation(place.max() + 1)[place], kind="stable")[:SHUFFLED_ROWS]
    x, y = take(x, rows), y[rows]
    units = units[rows] if units is not None else None
    before = loss.of(Rows(y, scorer(x, units), units=units))
    rises = {}
    for position, name in enumerate(names):
        shuffled: Any = x.copy()
        column = name if isinstance(x, dict) else (slice(None), position)
        shuffled[column] = rng.permutation(shuffled[column])
        rises[name] = loss.of(Rows(y, scorer(shuffled, units), units=units)) - before
    ranked = sorted(rises.items(), key=lambda item: -item[1])
    return [{"feature": name, "rise": float(f"{rise:.6g}")} for name, rise in ranked]
