"""The curves of a ranking are scikit-learn's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from loop.stats import classification

# Few distinct scores, so that ties are common.
ROWS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 5)), min_size=2, max_size=40).filter(
    lambda rows: len({label for label, _ in rows}) == 2
)


@given(ROWS)
def test_two_classes(rows):
    """ROC and precision-recall curves equal scikit-learn's, with ties too."""
    labels, scores = np.array(rows).T
    scores = scores / 5
    false_rate, true_rate, _ = metrics.roc_curve(labels, scores, drop_intermediate=False)
    precision, recall, _ = metrics.precision_recall_curve(labels, scores)
    for ours, theirs in zip(
        (*classification.roc_curve(labels, scores), *classification.precision_recall_curve(labels, scores)),
        (false_rate, true_rate, precision, recall),
        strict=True,
    ):
        assert ours == pytest.approx(theirs)
