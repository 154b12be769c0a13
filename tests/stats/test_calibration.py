"""Calibration."""

import numpy as np
import pytest

from loop.stats.calibration import curve, expected_error

pytestmark = pytest.mark.sample


def test_honest_scores_have_no_error():
    """Where three of ten rows scored 0.3 are positive, the error is nothing."""
    labels, scores = np.array([1] * 3 + [0] * 7), np.full(10, 0.3)
    assert expected_error(labels, scores) == pytest.approx(0)


def test_error_is_weighted_by_rows():
    """Every row of a bin weighs the same, and empty bins are left out."""
    labels, scores = np.array([0, 0, 0, 1]), np.array([0.9, 0.9, 0.9, 0.9])
    scores[3] = 0.1
    assert expected_error(labels[:3], scores[:3]) == pytest.approx(0.9)
    assert expected_error(labels, scores) == pytest.approx((3 * 0.9 + 0.9) / 4)
    assert curve(labels, scores).rows.tolist() == [1, 3]


def test_a_score_of_one_has_a_bin():
    """The last bin includes its upper end."""
    assert curve(np.array([1]), np.array([1.0])).rows.tolist() == [1]
