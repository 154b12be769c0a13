"""The paired bootstrap gives the interval of a metric's difference between two models."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics

from loop.stats.bootstrap import difference, interval, resamples
from loop.stats.metrics import Rows, of

AP = of("binary")["average_precision"]

# Few distinct scores, so that ties are common.
ROWS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 5)), min_size=2, max_size=40).filter(
    lambda rows: len({label for label, _ in rows}) == 2
)


def _arrays(rows):
    labels, scores = np.array(rows).T
    return labels, scores / 5


EXPECTED = {  # scikit-learn's metrics of labels, scores and decisions
    "average_precision": lambda y, s, _: metrics.average_precision_score(y, s),
    "roc_auc": lambda y, s, _: metrics.roc_auc_score(y, s),
    "accuracy": lambda y, _, d: metrics.accuracy_score(y, d),
    "f1": lambda y, _, d: metrics.f1_score(y, d, zero_division=0),
    "precision": lambda y, _, d: metrics.precision_score(y, d, zero_division=0),
    "recall": lambda y, _, d: metrics.recall_score(y, d, zero_division=0),
    "log_loss": lambda y, s, _: metrics.log_loss(y, s),
    "brier": lambda y, s, _: metrics.brier_score_loss(y, s),
}


@given(ROWS, st.integers(0, 9))
def test_metrics_agree_with_sklearn(rows, seed):
    """Each metric equals scikit-learn's, even with ties, on all rows and on those that a resample draws."""
    labels, scores = _arrays(rows)
    known = of("binary")
    counts = next(resamples(Rows(labels, scores), 1, np.random.default_rng(seed)))
    for drawn in (np.ones_like(labels), counts):
        copies = np.repeat(np.arange(len(labels)), drawn)
        y, s = labels[copies], scores[copies]
        for name, expected in EXPECTED.items():
            found = known[name].prepare(Rows(labels, scores))(drawn)
            assert found == pytest.approx(expected(y, s, s >= 0.5), abs=1e-12), name
    assert set(known) == {*EXPECTED, "calibration_error"}


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), min_size=3, max_size=40), st.integers(0, 9))
def test_metrics_of_several_classes_agree_with_sklearn(rows, seed):
    """A class that is never chosen, or never right, counts as in scikit-learn."""
    labels, chosen = np.array([(0, 0), (1, 1), (2, 2), *rows]).T
    scores = np.random.default_rng(seed).dirichlet(np.ones(4), len(labels)) / 9 + np.eye(4)[chosen]
    scores /= scores.sum(axis=1, keepdims=True)
    counts = next(resamples(Rows(labels, scores), 1, np.random.default_rng(seed)))
    for drawn in (np.ones_like(labels), counts):
        copies = np.repeat(np.arange(len(labels)), drawn)
        y, s, d = labels[copies], scores[copies], chosen[copies]
        expected = {
            "accuracy": metrics.accuracy_score(y, d),
            "f1": metrics.f1_score(y, d, average="macro", zero_division=0),
            "log_loss": metrics.log_loss(y, s, labels=range(4)),
        }
        found = {name: each.prepare(Rows(labels, scores))(drawn) for name, each in of("multiclass").items()}
        assert found == pytest.approx(expected, abs=1e-12)


VALUES = st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=4, max_size=40).filter(
    lambda rows: len({label for label, _ in rows}) > 1
)


@given(VALUES, st.integers(0, 9))
def test_metrics_of_values_agree_with_sklearn_and_scipy(rows, seed):
    """A regression's metrics are right, even with ties, on all rows and on those that a resample draws."""
    labels, scores = np.array(rows, dtype=float).T
    counts = next(resamples(Rows(labels, scores), 1, np.random.default_rng(seed)))
    for drawn in (np.ones(len(labels), dtype=int), counts):
        copies = np.repeat(np.arange(len(labels)), drawn)
        y, s = labels[copies], scores[copies]
        found = {name: each.prepare(Rows(labels, scores))(drawn) for name, each in of("regression").items()}
        spread = len(set(y)) > 1
        expected = {
            "rmse": metrics.root_mean_squared_error(y, s),
            "mae": metrics.mean_absolute_error(y, s),
            "r2": metrics.r2_score(y, s) if spread else 0,
            "spearman": stats.spearmanr(y, s).statistic if spread and len(set(s)) > 1 else 0,
        }
        assert found == pytest.approx(expected, abs=1e-9)


def test_a_better_regression_stands_clear_of_zero():
    """A better regression's interval of a loss is below zero, and `rarer` counts all rows, or all units."""
    rng = np.random.default_rng(0)
    truth = rng.normal(size=500)
    good, bad = truth + rng.normal(size=500) * 0.5, truth + rng.normal(size=500)
    metric, models = of("regression")["rmse"], _scored(truth, bad, good)
    found = difference(*models, metric, samples=200)
    assert found.high < 0
    assert found.rarer == 500
    models = _scored(truth, bad, good, units=np.arange(500) // 10)
    assert difference(*models, metric, samples=200).rarer == 50


def _scored(labels, *scores, **columns):
    return [Rows(labels, each, **columns) for each in scores]


def _shop(rows=4000):
    rng = np.random.default_rng(1)
    labels = (rng.random(rows) < 0.05).astype(np.int64)
    good = rng.normal(size=rows) + 2 * labels
    return labels, good, good + rng.normal(size=rows)


def test_a_better_model_stands_clear_of_zero():
    """A model's interval against its noisy copy is above zero, and the copy's is below."""
    labels, good, noisy = _shop()
    assert difference(*_scored(labels, noisy, good), AP, samples=200).low > 0
    assert difference(*_scored(labels, good, noisy), AP, samples=200).high < 0


def test_a_metric_lies_in_its_own_interval():
    """A model's interval contains its metric on the rows themselves, and more rows make it narrower."""
    few, many = (_shop(rows) for rows in (500, 8000))
    prepare = of("binary")["roc_auc"].prepare
    found = [interval(rows := Rows(y, good), prepare(rows), samples=200) for y, good, _ in (few, many)]
    for (low, _, high, _), (y, good, _) in zip(found, (few, many), strict=True):
        assert low < metrics.roc_auc_score(y, good) < high
    assert found[1].high - found[1].low < found[0].high - found[0].low


def test_the_same_model_differs_by_nothing():
    """A model compared with itself differs by exactly 0, because both are measured on the same draws."""
    labels, good, _ = _shop()
    assert difference(*_scored(labels, good, good), AP, samples=100)[:3] == (0.0, 0.0, 0.0)


def test_same_rows_same_interval():
    """The same rows give the same draws, so a gate that runs again has the same verdict."""
    labels, good, noisy = _shop()
    models = _scored(labels, noisy, good)
    first, again = (difference(*models, AP, samples=100) for _ in range(2))
    assert first == again


def test_accuracy_of_several_classes():
    """With a score for each class, accuracy takes the class with the largest one."""
    labels = np.array([0, 1, 2, 2])
    right, wrong = np.eye(3)[labels], np.eye(3)[[0, 1, 2, 1]]
    interval = difference(*_scored(labels, wrong, right), of("multiclass")["accuracy"], samples=500)
    assert 0 <= interval.low <= interval.mean <= interval.high <= 0.5


def test_rows_that_belong_together_are_drawn_together():
    """Fifty customers with forty similar rows each count like fifty rows, not like two thousand."""
    rng = np.random.default_rng(0)
    labels = np.repeat(rng.integers(0, 2, 50), 40)
    units = np.repeat(np.arange(50), 40)
    first, second = (labels * 0.5 + np.repeat(rng.normal(size=50), 40) for _ in range(2))
    once = np.unique(units, return_index=True)[1]
    few = difference(*_scored(labels[once], first[once], second[once]), AP, samples=300)
    grouped = difference(*_scored(labels, first, second, units=units), AP, samples=300)
    alone = difference(*_scored(labels, first, second), AP, samples=300)
    assert grouped.rarer == few.rarer < 25 < alone.rarer
    assert grouped.high - grouped.low == pytest.approx(few.high - few.low, rel=0.05)
    assert alone.high - alone.low < 0.4 * (few.high - few.low)


def test_rows_of_one_class_have_no_ranking():
    """Rows of one class are refused, instead of being measured as 0 or NaN."""
    with pytest.raises(ValueError, match="different labels, but all 2 are 1"):
        difference(*_scored(np.array([1, 1]), np.zeros(2), np.ones(2)), AP)
