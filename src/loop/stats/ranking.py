"""How well scores pick the cards that investigators have time for."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def card_precision(
    labels: NDArray[np.int64], scores: NDArray[np.float64], cards: NDArray[Any], days: NDArray[Any], k: int
) -> float:
    """Mean over days of the share of compromised cards among the k of highest score.

    A card scores as its highest transaction of the day, and once found it is blocked: later days leave it
    out. Equal scores go by card. Source: `card_precision_top_k` of the Fraud Detection Handbook, ch. 4.

    Args:
        labels: (n,) 0 or 1.
        scores: (n,) higher is more suspect.
        cards: (n,) whose transaction it is.
        days: (n,) when; any type that sorts.
        k: cards checked a day.
    """
    found: NDArray[Any] = cards[:0]
    shares = []
    for day in np.unique(days):
        rows = np.flatnonzero((days == day) & ~np.isin(cards, found))
        caught = _caught(labels[rows], scores[rows], cards[rows], k)
        shares.append(len(caught) / k)
        found = np.concatenate([found, caught])
    return float(np.mean(shares))


def _caught(
    labels: NDArray[np.int64], scores: NDArray[np.float64], cards: NDArray[Any], k: int
) -> NDArray[Any]:
    """The compromised ones among a day's k most suspect cards."""
    names, position = np.unique(cards, return_inverse=True)
    highest = np.full(len(names), -np.inf)
    np.maximum.at(highest, position, scores)
    compromised = np.bincount(position, weights=labels, minlength=len(names)) > 0
    top = np.argsort(-highest, kind="stable")[:k]
    return names[top[compromised[top]]]
