"""Softmax regression: no trees, no XGBoost."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from loop.core.params import Section


class Params(Section):
    """scikit-learn's own."""

    c: float = Field(default=1.0, gt=0)  # inverse of the penalty


def fit(x: NDArray[Any], y: NDArray[Any], params: Params) -> Any:
    """Fit on (n, 64) and (n,)."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=params.c, max_iter=500).fit(x, y)


def save(fitted: Any, folder: Path) -> None:
    """Write weights (64, 10) and bias (10,)."""
    np.savez(folder / "weights.npz", weights=fitted.coef_.T, bias=fitted.intercept_)
