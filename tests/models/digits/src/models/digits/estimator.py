"""Softmax regression: no trees, no XGBoost."""

from collections.abc import Callable
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


def load(folder: Path) -> Callable[[NDArray[Any]], NDArray[np.float64]]:
    """The scorer: (n, 64) to (n, 10) probabilities."""
    with np.load(folder / "weights.npz") as kept:
        weights, bias = kept["weights"], kept["bias"]

    def score(x: NDArray[Any]) -> NDArray[np.float64]:
        exponent = np.exp(x @ weights + bias)
        return np.asarray(exponent / exponent.sum(axis=1, keepdims=True))

    return score


def save_to_mlflow(folder: Path, **kwargs: Any) -> None:
    """Save it in MLflow's scikit-learn flavour."""
    import mlflow.sklearn
    from sklearn.linear_model import LogisticRegression

    with np.load(folder / "weights.npz") as kept:
        model = LogisticRegression()
        model.coef_, model.intercept_, model.classes_ = kept["weights"].T, kept["bias"], np.arange(10)
    mlflow.sklearn.save_model(model, **kwargs)
