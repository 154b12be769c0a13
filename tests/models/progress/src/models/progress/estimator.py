"""Ridge regression: no trees, no XGBoost."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from loop.core.params import Section


class Params(Section):
    """scikit-learn's own."""

    penalty: float = Field(default=1.0, ge=0)


def fit(x: NDArray[Any], y: NDArray[Any], params: Params) -> Any:
    """Fit on (n, 10) and (n,)."""
    from sklearn.linear_model import Ridge

    return Ridge(params.penalty).fit(x, y)


def save(fitted: Any, folder: Path) -> None:
    """Write weights (10,) and bias."""
    np.savez(folder / "weights.npz", weights=fitted.coef_, bias=fitted.intercept_)


def load(folder: Path) -> Callable[[NDArray[Any]], NDArray[np.float64]]:
    """The scorer: (n, 10) to (n,) predicted progressions."""
    with np.load(folder / "weights.npz") as kept:
        weights, bias = kept["weights"], kept["bias"]
    return lambda x: np.asarray(x @ weights + bias)


def save_to_mlflow(folder: Path, **kwargs: Any) -> None:
    """Save it in MLflow's scikit-learn flavour."""
    import mlflow.sklearn
    from sklearn.linear_model import Ridge

    with np.load(folder / "weights.npz") as kept:
        model = Ridge()
        model.coef_, model.intercept_ = kept["weights"], kept["bias"]
    mlflow.sklearn.save_model(model, **kwargs)
