"""Softmax regression over pixels."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from loop.core.params import Section

from .scorer import pixels


class Params(Section):
    """The parameter of scikit-learn's LogisticRegression."""

    c: float = Field(default=1.0, gt=0)  # inverse of the penalty


def fit(rows: Mapping[str, NDArray[Any]], digits: NDArray[Any], params: Params) -> Any:
    """Fit on n images and their (n,) digits."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=params.c, max_iter=500).fit(pixels(rows), digits)


def save(fitted: Any, folder: Path) -> None:
    """Write weights (64, 10) and bias (10,)."""
    np.savez(folder / "weights.npz", weights=fitted.coef_.T, bias=fitted.intercept_)
