"""The metrics and curves of decisions and probabilities are scikit-learn's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from loop.stats import classification

# Few distinct scores, so that ties are common; 0 and 1 among them, which log loss must survive.
ROWS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 5)), min_size=2, max_size=40).filter(
    lambda rows: len({label for label, _ in rows}) == 2
)


@given(ROWS)
def test_two_classes(rows):
    """Decisions, probabilities and curves, ties included."""
    labels, scores = np.array(rows).T
    scores = scores / 5
    flagged = scores >= 0.5
    found = [
        *classification.decisions(labels, flagged),
        classification.log_loss(labels, scores),
        classification.brier(labels, scores),
        classification.macro_f1(labels, flagged.astype(int)),
    ]
    assert found == pytest.approx([
        metrics.precision_score(labels, flagged, zero_division=0),
        metrics.recall_score(labels, flagged),
        metrics.f1_score(labels, flagged, zero_division=0),
        metrics.log_loss(labels, scores),
        metrics.brier_score_loss(labels, scores),
        metrics.f1_score(labels, flagged, average="macro", zero_division=0),
    ])  # fmt: skip
    false_rate, true_rate, _ = metrics.roc_curve(labels, scores, drop_intermediate=False)
    precision, recall, _ = metrics.precision_recall_curve(labels, scores)
    for ours, theirs in zip(
        (*classification.roc_curve(labels, scores), *classification.precision_recall_curve(labels, scores)),
        (false_rate, true_rate, precision, recall),
        strict=True,
    ):
        assert ours == pytest.approx(theirs)


def test_several_classes():
    """Log loss and mean F1 of three classes, one of which is never chosen."""
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 3, 60), rng.dirichlet(np.ones(3), 60)
    chosen = scores[:, :2].argmax(axis=1)
    assert classification.log_loss(labels, scores) == pytest.approx(metrics.log_loss(labels, scores))
    assert classification.macro_f1(labels, chosen) == pytest.approx(
        metrics.f1_score(labels, chosen, average="macro")
    )
