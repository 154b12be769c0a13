"""The paired bootstrap of a difference between two models."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from loop.stats.bootstrap import difference, interval, prepare, resamples

pytestmark = pytest.mark.sample

# Few distinct scores, so that ties are common.
ROWS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 5)), min_size=2, max_size=40).filter(
    lambda rows: len({label for label, _ in rows}) == 2
)


def _arrays(rows):
    labels, scores = np.array(rows).T
    return labels, scores / 5


@given(ROWS)
def test_metrics_agree_with_sklearn(rows):
    """With every row counted once, each metric is scikit-learn's, ties included."""
    labels, scores = _arrays(rows)
    once = np.ones(len(labels), dtype=np.int64)
    expected = {
        "average_precision": metrics.average_precision_score(labels, scores),
        "roc_auc": metrics.roc_auc_score(labels, scores),
        "accuracy": metrics.accuracy_score(labels, scores >= 0.5),
    }
    for name, value in expected.items():
        assert prepare(name, labels, scores)(once) == pytest.approx(value, abs=1e-12)


@given(ROWS, st.integers(0, 9))
def test_a_count_is_a_repeated_row(rows, seed):
    """Counting a row n times measures what n copies of it would."""
    labels, scores = _arrays(rows)
    counts = next(resamples(labels, 1, np.random.default_rng(seed)))
    copies = np.repeat(np.arange(len(labels)), counts)
    expected = metrics.average_precision_score(labels[copies], scores[copies])
    assert prepare("average_precision", labels, scores)(counts) == pytest.approx(expected, abs=1e-12)


def _shop(rows=4000):
    rng = np.random.default_rng(1)
    labels = (rng.random(rows) < 0.05).astype(np.int64)
    good = rng.normal(size=rows) + 2 * labels
    return labels, good, good + rng.normal(size=rows)


def test_a_better_model_stands_clear_of_zero():
    """Against a noisy copy of itself a model is better by an interval above zero; the copy, below."""
    labels, good, noisy = _shop()
    assert difference(labels, noisy, good, samples=200).low > 0
    assert difference(labels, good, noisy, samples=200).high < 0


def test_a_metric_lies_in_its_own_interval():
    """One model's interval holds what it measures on the rows themselves; more rows make it narrower."""
    few, many = (_shop(rows) for rows in (500, 8000))
    found = [interval(y, good, metric="roc_auc", samples=200) for y, good, _ in (few, many)]
    for (low, _, high, _), (y, good, _) in zip(found, (few, many), strict=True):
        assert low < metrics.roc_auc_score(y, good) < high
    assert found[1].high - found[1].low < found[0].high - found[0].low


def test_the_same_model_differs_by_nothing():
    """Scores compared with themselves differ by exactly nothing: the draws are paired."""
    labels, good, _ = _shop()
    assert difference(labels, good, good, samples=100)[:3] == (0.0, 0.0, 0.0)


def test_same_seed_same_interval():
    """The seed alone decides the draws."""
    labels, good, noisy = _shop()
    first, again = (difference(labels, noisy, good, samples=100, seed=3) for _ in range(2))
    assert first == again != difference(labels, noisy, good, samples=100, seed=4)


def test_accuracy_of_several_classes():
    """With a score for each class, accuracy takes the largest."""
    labels = np.array([0, 1, 2, 2])
    right, wrong = np.eye(3)[labels], np.eye(3)[[0, 1, 2, 1]]
    interval = difference(labels, wrong, right, metric="accuracy", samples=500)
    assert 0 <= interval.low <= interval.mean <= interval.high <= 0.5


@pytest.mark.parametrize(("metric", "labels"), [("f1", [0, 1]), ("average_precision", [1, 1])])
def test_what_cannot_be_measured_is_an_error(metric, labels):
    """An unknown metric, and ranking rows of one class, are refused."""
    with pytest.raises(ValueError, match=metric):
        difference(np.array(labels), np.zeros(2), np.ones(2), metric=metric)
