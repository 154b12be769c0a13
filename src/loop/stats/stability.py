"""Measures how much a distribution has changed, from counts of its values."""

from collections.abc import Sequence
from math import log


def psi(reference: Sequence[float], current: Sequence[float]) -> float:
    """Return the population stability index of two histograms, minus its expected value by chance.

    Both histograms have the same bins. Half an observation is added to each bin that either uses. Two samples
    of the same distribution have an expected PSI of (bins - 1)(1/n + 1/m): Yurdakul, "Statistical properties
    of PSI", 2018.
    """
    seen = [(then, now) for then, now in zip(reference, current, strict=True) if then or now]
    if len(seen) < 2:  # noqa: PLR2004 — with a single bin, both are equal
        return 0.0
    n, m = (sum(side) + len(seen) / 2 for side in (reference, current))
    shares = [((then + 0.5) / n, (now + 0.5) / m) for then, now in seen]
    found = sum((now - then) * log(now / then) for then, now in shares)
    return max(0.0, found - (len(seen) - 1) * (1 / n + 1 / m))
