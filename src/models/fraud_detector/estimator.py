"""Trains and saves a fraud classifier of boosted trees with XGBoost."""

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xgboost as xgb
from numpy.typing import NDArray
from pydantic import Field

from loop.core.errors import LoopError
from loop.core.params import Section

FILE = "model.ubj"


class Params(Section):
    """Training parameters, with XGBoost's names and meanings."""

    device: Literal["cpu", "cuda"] = "cpu"
    threads: int = Field(2, gt=0)  # CPU threads; fixed, because another number rounds sums differently
    seed: int = 0
    n_estimators: int = Field(100, gt=0)
    max_depth: int = Field(10, gt=0)
    learning_rate: float = Field(0.3, gt=0, le=1)
    subsample: float = Field(1.0, gt=0, le=1)
    colsample_bytree: float = Field(1.0, gt=0, le=1)
    min_child_weight: float = Field(1.0, ge=0)
    reg_lambda: float = Field(1.0, ge=0)
    scale_pos_weight: float = Field(1.0, gt=0)


def fit(x: NDArray[np.float64], y: NDArray[np.int64], params: Params) -> xgb.Booster:
    """Train on features (n, f) and labels (n,). Raises LoopError if XGBoost did not use the device."""
    settings = params.model_dump(exclude={"threads", "n_estimators"})
    settings |= {"nthread": params.threads, "objective": "binary:logistic", "tree_method": "hist"}
    rows = xgb.QuantileDMatrix(x, label=y, nthread=params.threads)
    booster = xgb.train(settings, rows, num_boost_round=params.n_estimators)
    check_device(booster, params.device)
    return booster


def check_device(booster: xgb.Booster, asked: str) -> None:
    """Raise LoopError if XGBoost, which silently falls back to the CPU, did not train on `asked`."""
    found = json.loads(booster.save_config())["learner"]["generic_param"]["device"]
    if not found.startswith(asked):
        fix = "install requirements-gpu.lock on a machine with an NVIDIA GPU, or set `device: cpu`"
        raise LoopError(f"params.yaml: train.device: is {asked!r}, but XGBoost trained on {found!r}", fix=fix)


def save(booster: xgb.Booster, folder: Path) -> None:
    booster.save_model(folder / FILE)


def save_to_mlflow(folder: Path, **kwargs: Any) -> None:
    """Save the trees in MLflow's XGBoost flavour."""
    import mlflow.xgboost

    mlflow.xgboost.save_model(xgb.Booster(model_file=folder / FILE), **kwargs)
