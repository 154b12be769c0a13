"""A few trees by XGBoost."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import xgboost as xgb
from numpy.typing import NDArray

from loop.core.params import Section


class Params(Section):
    """XGBoost's own names and meanings."""

    device: Literal["cpu", "cuda"] = "cpu"
    seed: int = 0
    n_estimators: int = 20
    max_depth: int = 4
    subsample: float = 1.0


def fit(x: NDArray[np.float64], y: NDArray[np.int64], params: Params) -> xgb.Booster:
    """Train on (n, f) features and (n,) labels."""
    settings = {**params.model_dump(exclude={"n_estimators"}), "nthread": 2, "objective": "binary:logistic"}
    return xgb.train(settings, xgb.QuantileDMatrix(x, label=y), num_boost_round=params.n_estimators)


def save(booster: xgb.Booster, folder: Path) -> None:
    """Write model.ubj."""
    booster.save_model(folder / "model.ubj")


def save_to_mlflow(folder: Path, **kwargs: Any) -> None:
    """Save in MLflow's XGBoost flavour."""
    import mlflow.xgboost

    mlflow.xgboost.save_model(xgb.Booster(model_file=folder / "model.ubj"), **kwargs)
