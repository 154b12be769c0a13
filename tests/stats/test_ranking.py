"""Card precision."""

import numpy as np
import pytest

from loop.stats.ranking import card_precision

pytestmark = pytest.mark.sample


def test_a_card_is_found_once():
    """A found card is blocked: on the next day the next most suspect one takes its place."""
    days = np.array([1, 1, 2, 2])
    cards = np.array(["a", "b", "a", "b"])
    labels = np.array([1, 0, 1, 1])
    scores = np.array([0.9, 0.1, 0.9, 0.2])
    assert card_precision(labels, scores, cards, days, k=1) == 1.0


def test_a_card_counts_by_its_worst_transaction():
    """A compromised card is caught by any suspect transaction of the day, be it the fraud or not."""
    labels, scores = np.array([1, 0, 0]), np.array([0.1, 0.9, 0.5])
    cards, days = np.array([7, 7, 8]), np.zeros(3)
    assert card_precision(labels, scores, cards, days, k=1) == 1.0


def test_fewer_cards_than_checks():
    """The share is of the checks that there is time for, not of the cards that paid."""
    assert card_precision(np.array([1]), np.array([0.9]), np.array([1]), np.array([1]), k=100) == 0.01
