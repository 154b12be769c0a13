"""Looks up the classes' shares in a state, which is an array of numbers with NaN for a missing one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

EDGES = (5.0, 10.0, 20.0)  # days


def cells(x: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return (n,) orders up to 5, and (n,) intervals of days since the last one, 4 if that is unknown."""
    ago = np.where(np.isnan(x[:, 1]), len(EDGES) + 1, np.searchsorted(EDGES, x[:, 1]))
    return np.minimum(x[:, 0], 5).astype(np.intp), ago.astype(np.intp)


def load(folder: Path) -> Callable[[NDArray[Any]], NDArray[np.float64]]:
    """Return the scorer, which converts (n, 2) states to (n, 3) probabilities."""
    shares = np.load(folder / "shares.npy")
    return lambda x: np.asarray(shares[cells(x)])
