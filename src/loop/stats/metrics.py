"""The metrics of every task. Evaluation, floors, gate and reports use this one table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from loop.stats import curves
from loop.stats.curves import Floats, Labels

if TYPE_CHECKING:
    import pyarrow as pa

Counts = NDArray[np.int64]
Measure = Callable[[Counts], float]  # maps how often each row counts (n,) to the metric's value


@dataclass(frozen=True)
class Rows:
    """Rows with their labels and a model's scores."""

    labels: NDArray[Any]  # (n,) class numbers from 0, or true values of a regression or ranking
    scores: Floats  # scores (n,) of class 1 or (n, classes), or predicted values (n,) of a regression
    threshold: float = 0.5  # a row with at least this score is predicted as class 1
    # other columns of the rows, such as id, time and entity, for a model's own metrics
    columns: pa.Table | None = None
    answered: Labels | None = None  # (n,) predicted classes, if they are known without scores
    # (n,) unit that each row belongs to; a ranking orders the rows of a unit
    units: NDArray[Any] | None = None

    def take(self, numbers: Counts) -> Rows:
        """Return the rows at the indexes `numbers`, in that order; an index may occur several times."""
        columns = self.columns.take(numbers) if self.columns is not None else None
        answered = self.answered[numbers] if self.answered is not None else None
        units = self.units[numbers] if self.units is not None else None
        return Rows(self.labels[numbers], self.scores[numbers], self.threshold, columns, answered, units)

    def column(self, name: str) -> NDArray[Any]:
        """Return another column of the rows (n,). Raises LookupError if the rows have no other columns."""
        if self.columns is None:
            raise LookupError(f"these rows have no other columns, so {name} is missing")
        found: NDArray[Any] = self.columns[name].to_numpy()
        return found

    @property
    def decided(self) -> Labels:
        """The predicted class of each row (n,): `answered` if set, else by threshold or highest score."""
        if self.answered is not None:
            return self.answered
        flat = self.scores.ndim == 1
        chosen: NDArray[Any] = self.scores >= self.threshold if flat else self.scores.argmax(axis=1)
        return chosen.astype(np.int64)


@dataclass(frozen=True)
class Metric:
    """A metric of scores. `prepare` does the work that the bootstrap need not repeat for each resample."""

    name: str
    prepare: Callable[[Rows], Measure]
    lower: bool = False  # whether lower values of the metric are better

    def of(self, rows: Rows) -> float:
        """Return the metric over all rows, each counted once."""
        return self.prepare(rows)(np.ones(len(rows.labels), dtype=np.int64))

    def margin(self, value: float, bound: float) -> float:
        """Return by how much a value is better than a bound; negative if it misses the bound."""
        return bound - value if self.lower else value - bound

    def missed(self, value: float, bound: float) -> str | None:
        """Return a message if a value misses a bound, otherwise None. NaN always misses."""
        if self.margin(value, bound) >= 0:
            return None
        missed = "over its bound" if self.lower else "under its floor"
        return f"{self.name} is {value:.4f}, {missed} {bound:g}"


def by_rows(function: Callable[[Rows], float]) -> Callable[[Rows], Measure]:
    """Turn a function of rows into a metric's `prepare`.

    It is slower than a special form, because each resample repeats the rows.
    """

    def prepare(rows: Rows) -> Measure:
        numbers = np.arange(len(rows.labels))
        return lambda counts: function(rows.take(np.repeat(numbers, counts)))

    return prepare


def average_precision(rows: Rows) -> Measure:
    """Sum of (gain in recall) x precision over falling thresholds.

    Rows with equal scores share a threshold.
    """
    order, ends = curves.thresholds(rows.scores)
    positive = _different(rows.labels)[order] == 1

    def measure(counts: Counts) -> float:
        drawn = counts[order]
        found, flagged = np.cumsum(drawn * positive)[ends], np.cumsum(drawn)[ends]
        return float(np.diff(found, prepend=0) @ (found / np.maximum(flagged, 1)) / found[-1])

    return measure


def roc_auc(rows: Rows) -> Measure:
    """Probability that a positive row scores higher than a negative one; ties count half."""
    order, ends = curves.thresholds(rows.scores)
    positive = _different(rows.labels)[order] == 1

    def measure(counts: Counts) -> float:
        drawn = counts[order]
        found, missed = (np.cumsum(drawn * side)[ends] for side in (positive, ~positive))
        lower = missed[-1] - missed + np.diff(missed, prepend=0) / 2
        return float(np.diff(found, prepend=0) @ lower / (found[-1] * missed[-1]))

    return measure


def mean_of(value: Callable[[Rows], NDArray[Any]]) -> Callable[[Rows], Measure]:
    """Return a metric's `prepare` for the mean of one value per row."""

    def prepare(rows: Rows) -> Measure:
        each = np.asarray(value(rows), dtype=np.float64)
        return lambda counts: float(counts @ each / counts.sum())

    return prepare


def of_decisions(ratio: Callable[[float, float, float], tuple[float, float]]) -> Callable[[Rows], Measure]:
    """Return a metric's `prepare` for a ratio of true positives, predicted positives and actual positives.

    The metric is 0 if the denominator is 0. With more than two classes, it is the mean over the classes that
    occur.
    """

    def prepare(rows: Rows) -> Measure:
        decided, binary = rows.decided, rows.scores.ndim == 1
        classes = [1] if binary else np.union1d(rows.labels, decided)
        masks = [(rows.labels == value, decided == value) for value in classes]

        def measure(counts: Counts) -> float:
            found = []
            for true, called in masks:
                hits, answered, wanted = (float(counts @ mask) for mask in (true & called, called, true))
                if binary or answered + wanted:
                    part, whole = ratio(hits, answered, wanted)
                    found.append(part / whole if whole else 0.0)
            return float(np.mean(found))

        return measure

    return prepare


def surprise(rows: Rows) -> Floats:
    """Return the negative logarithm of the predicted probability of each row's label (n,).

    Probabilities are clipped to the range in which float64 distinguishes them from 0 and 1.
    """
    scores = np.asarray(rows.scores, dtype=np.float64)
    table = np.stack([1 - scores, scores], axis=1) if scores.ndim == 1 else scores
    eps = np.finfo(np.float64).eps
    logs: Floats = -np.log(np.clip(table, eps, 1 - eps)[np.arange(len(rows.labels)), rows.labels])
    return logs


def calibration_error(rows: Rows) -> Measure:
    """Expected calibration error: |share of positives - mean score| per bin, weighted by rows.

    Naeini et al. 2015.
    """

    def measure(counts: Counts) -> float:
        predicted, observed, weights = curves.calibration(rows.labels, rows.scores, counts)
        return float(np.abs(observed - predicted) @ weights / weights.sum())

    return measure


def rmse(rows: Rows) -> Measure:
    """Root of the mean squared error."""
    square = (rows.scores - rows.labels) ** 2
    return lambda counts: float(np.sqrt(counts @ square / counts.sum()))


def r2(rows: Rows) -> Measure:
    """Share of the labels' variance that the predictions explain; 0 for predicting the mean."""
    labels, square = _different(rows.labels), (rows.scores - rows.labels) ** 2

    def measure(counts: Counts) -> float:
        mean = counts @ labels / counts.sum()
        spread = counts @ (labels - mean) ** 2
        return float(1 - counts @ square / spread) if spread else 0.0

    return measure


def spearman(rows: Rows) -> Measure:
    """Spearman's rank correlation of labels and predictions; equal values share their mean rank."""
    sides = [np.unique(side, return_inverse=True)[1] for side in (_different(rows.labels), rows.scores)]

    def measure(counts: Counts) -> float:
        ranks = []
        for place in sides:
            drawn = np.bincount(place, weights=counts)
            ranks.append((np.cumsum(drawn) - (drawn - 1) / 2)[place])
        first, second = (rank - counts @ rank / counts.sum() for rank in ranks)
        spread = np.sqrt((counts @ first**2) * (counts @ second**2))
        return float(counts @ (first * second) / spread) if spread else 0.0

    return measure


def pairwise_accuracy(rows: Rows) -> Measure:
    """Share of an entity's pairs with different labels that the scores order correctly; ties count half.

    Every pair counts once, so an entity with more rows has more weight.
    """

    def right(labels: NDArray[Any], scores: Floats) -> tuple[float, float]:
        above = labels[:, None] > labels[None, :]
        lead = scores[:, None] - scores[None, :]
        return (above & (lead > 0)).sum() + (above & (lead == 0)).sum() / 2, above.sum()

    return _by_entity(rows, right, needs="rows of different labels")


def ndcg(rows: Rows, k: int) -> Measure:
    """Normalized discounted cumulative gain over the first k places, averaged over entities.

    The gain is the label, which may not be negative. Rows with equal scores share the mean gain of their
    places. Entities without any gain are left out. Sources: Järvelin and Kekäläinen, 2002; for ties McSherry
    and Najork, 2008.
    """

    def gained(labels: NDArray[Any], scores: Floats) -> tuple[float, float]:
        if labels.min() < 0:
            raise ValueError("NDCG needs labels of 0 or more")
        discount = 1 / np.log2(np.arange(len(labels)) + 2) * (np.arange(len(labels)) < k)
        _, place, size = np.unique(-scores, return_inverse=True, return_counts=True)
        gain = np.bincount(place, weights=labels) / size
        found = gain @ np.add.reduceat(discount, np.cumsum(size) - size)
        ideal = np.sort(labels)[::-1] @ discount
        return (float(found / ideal), 1.0) if ideal else (0.0, 0.0)

    return _by_entity(rows, gained)


def hit_rate(rows: Rows, k: int) -> Measure:
    """Share of entities with a row of their highest label among the first k rows; tied rows rank last."""

    def hit(labels: NDArray[Any], scores: Floats) -> tuple[float, float]:
        best = scores[labels == labels.max()].max()
        return (scores >= best).sum() <= k, 1

    return _by_entity(rows, hit)


def _by_entity(
    rows: Rows, share: Callable[[NDArray[Any], Floats], tuple[float, float]], needs: str = ""
) -> Measure:
    """Return a ratio of sums over entities; `share` maps an entity's labels and scores to its two parts.

    A resample draws whole entities, so each counts as often as its first row.
    """
    if rows.units is None:
        raise ValueError("a ranking needs the entity of each row")
    order = np.argsort(rows.units, kind="stable")
    starts = np.flatnonzero(rows.units[order][1:] != rows.units[order][:-1]) + 1
    entities = np.split(order, starts)
    each = [share(rows.labels[members], rows.scores[members]) for members in entities]
    parts, wholes = np.array(each, dtype=np.float64).T
    if needs and not wholes.any():
        raise ValueError(f"a ranking needs an entity with {needs}")
    first = np.array([members[0] for members in entities])

    def measure(counts: Counts) -> float:
        drawn = counts[first]
        total = drawn @ wholes
        return float(drawn @ parts / total) if total else 0.0

    return measure


def _different(labels: NDArray[Any]) -> NDArray[Any]:
    if len(labels) and labels.min() == labels.max():
        alike = f"all {len(labels)} are {labels[0]:g}"
        raise ValueError(f"the metric needs rows with different labels, but {alike}")
    return labels


def _less(measure: Measure) -> Measure:
    return lambda counts: 1 - measure(counts)


ACCURACY = Metric("accuracy", mean_of(lambda rows: rows.decided == rows.labels))
F1 = Metric("f1", of_decisions(lambda hits, answered, wanted: (2 * hits, answered + wanted)))
LOG_LOSS = Metric("log_loss", mean_of(surprise), lower=True)
RMSE = Metric("rmse", rmse, lower=True)
TASKS = {
    "binary": (
        Metric("average_precision", average_precision),
        Metric("roc_auc", roc_auc),
        ACCURACY,
        F1,
        Metric("precision", of_decisions(lambda hits, answered, _: (hits, answered))),
        Metric("recall", of_decisions(lambda hits, _, wanted: (hits, wanted))),
        LOG_LOSS,
        # the Brier score (Brier, 1950)
        Metric("brier", mean_of(lambda rows: (rows.scores - rows.labels) ** 2), lower=True),
        Metric("calibration_error", calibration_error, lower=True),
    ),
    "multiclass": (ACCURACY, F1, LOG_LOSS),
    "regression": (
        RMSE,
        Metric("mae", mean_of(lambda rows: np.abs(rows.scores - rows.labels)), lower=True),
        Metric("r2", r2),
        Metric("spearman", spearman),
    ),
    "ranking": (
        Metric("pairwise_accuracy", pairwise_accuracy),
        Metric("ndcg_at_10", partial(ndcg, k=10)),
        Metric("hit_rate_at_10", partial(hit_rate, k=10)),
    ),
    # the correlation between the cosines and the labels of pairs
    "embedding": (Metric("spearman", spearman),),
}
DISORDER = Metric("pairwise_error", lambda rows: _less(pairwise_accuracy(rows)), lower=True)
DISCORD = Metric("rank_discord", lambda rows: _less(spearman(rows)), lower=True)
# The loss whose increase after shuffling a feature is that feature's importance.
LOSS = {
    "binary": LOG_LOSS,
    "multiclass": LOG_LOSS,
    "regression": RMSE,
    "ranking": DISORDER,
    "embedding": DISCORD,
}
SLICED = {  # metrics that are computed for slices of the rows
    "binary": ("accuracy", "average_precision", "roc_auc"),
    "multiclass": ("accuracy", "f1"),
    "regression": ("rmse", "mae"),
    "ranking": ("pairwise_accuracy",),
    "embedding": ("spearman",),
}


def of(task: str) -> dict[str, Metric]:
    """Return {name: Metric} of a task, in the order in which reports show them."""
    return {metric.name: metric for metric in TASKS[task]}
