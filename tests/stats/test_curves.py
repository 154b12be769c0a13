"""A classifier's curves and calibration error are computed correctly."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from loop.stats import curves
from loop.stats.metrics import Rows, of

pytestmark = pytest.mark.sample

ERROR = of("binary")["calibration_error"]
# Few distinct scores, so that ties are common.
ROWS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 5)), min_size=2, max_size=40).filter(
    lambda rows: len({label for label, _ in rows}) == 2
)


@given(ROWS)
def test_two_classes(rows):
    """ROC and precision-recall curves equal scikit-learn's, even with ties."""
    labels, scores = np.array(rows).T
    scores = scores / 5
    false_rate, true_rate, _ = metrics.roc_curve(labels, scores, drop_intermediate=False)
    precision, recall, _ = metrics.precision_recall_curve(labels, scores)
    for ours, theirs in zip(
        (*curves.roc(labels, scores), *curves.precision_recall(labels, scores)),
        (false_rate, true_rate, precision, recall),
        strict=True,
    ):
        assert ours == pytest.approx(theirs)


def test_honest_scores_have_no_error():
    """If three of ten rows with the score 0.3 are positive, the error is 0."""
    labels, scores = np.array([1] * 3 + [0] * 7), np.full(10, 0.3)
    assert ERROR.of(Rows(labels, scores)) == pytest.approx(0)


def test_error_is_weighted_by_rows():
    """A bin counts by its number of rows, and empty bins are left out."""
    labels, scores = np.array([0, 0, 0, 1]), np.array([0.9, 0.9, 0.9, 0.9])
    scores[3] = 0.1
    assert ERROR.of(Rows(labels[:3], scores[:3])) == pytest.approx(0.9)
    assert ERROR.of(Rows(labels, scores)) == pytest.approx((3 * 0.9 + 0.9) / 4)
    assert curves.calibration(labels, scores).rows.tolist() == [1, 3]


def test_a_score_of_one_has_a_bin():
    """The last bin includes its upper end."""
    assert curves.calibration(np.array([1]), np.array([1.0])).rows.tolist() == [1]
