"""How far a distribution has moved, from how often each of its values was seen."""

from collections.abc import Sequence
from math import log


def psi(reference: Sequence[float], current: Sequence[float]) -> float:
    """Population stability index of two lists of counts of the same bins, less what chance alone gives.

    Each bin that either has seen counts half an observation more. Two samples of one distribution have
    an expected PSI of (bins - 1)(1/n + 1/m): Yurdakul, "Statistical properties of PSI", 2018.
    """
    seen = [(then, now) for then, now in zip(reference, current, strict=True) if then or now]
    if len(seen) < 2:  # noqa: PLR2004 — one bin holds all of both
        return 0.0
    n, m = (sum(side) + len(seen) / 2 for side in (reference, current))
    shares = [((then + 0.5) / n, (now + 0.5) / m) for then, now in seen]
    found = sum((now - then) * log(now / then) for then, now in shares)
    return max(0.0, found - (len(seen) - 1) * (1 / n + 1 / m))
