"""Scores rows with XGBoost's Booster, without pandas or scikit-learn.

Up to FEW rows are scored with NumPy, which is faster.
"""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loop.runtime import forest, settings
from loop.runtime.model import Scorer

FEW = 48  # maximum rows for which NumPy is faster than XGBoost (tools/bench/bench_serving.py)

logger = logging.getLogger(__name__)


def load(folder: Path) -> Scorer:
    """Return the scorer of `folder`/model.ubj, which uses SCORER_DEVICE for more than FEW rows.

    Raises ValueError if that is a GPU and XGBoost finds none, because XGBoost itself would use the CPU then.
    """
    import xgboost

    device = settings.device()
    booster = xgboost.Booster({"nthread": settings.number("SCORER_THREADS"), "device": device})
    booster.load_model(folder / "model.ubj")
    used = json.loads(booster.save_config())["learner"]["generic_param"]["device"]
    if not used.startswith(device):
        raise ValueError(f"SCORER_DEVICE is {device}, but XGBoost computes on {used}")

    def many(rows: NDArray[np.float32]) -> NDArray[Any]:
        return np.asarray(booster.inplace_predict(rows, validate_features=False))

    trees = forest.read(bytes(booster.save_raw("json")))
    if trees and not forest.agrees(trees, many, np.zeros((1, booster.num_features()), np.float32)):
        logger.error("%s: NumPy scores its trees differently than XGBoost, which scores all rows", folder)
        trees = None
    if not trees:
        return many
    return lambda rows: trees(rows) if len(rows) <= FEW else many(rows)
