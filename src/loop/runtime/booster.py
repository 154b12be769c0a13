"""XGBoost's own Booster as a scorer: no pandas, no scikit-learn; few rows by NumPy, which is quicker."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loop.runtime import forest, settings
from loop.runtime.model import Scorer

FEW = 48  # rows, up to which NumPy is quicker than a call into XGBoost (tools/bench_serving)

logger = logging.getLogger(__name__)


def load(folder: Path) -> Scorer:
    """The scorer of `folder`/model.ubj, with SCORER_THREADS threads a prediction, 1 unless set.

    Many rows are scored on SCORER_DEVICE. ValueError where XGBoost finds no GPU and was to use one: it would
    go on with the CPU.
    """
    import xgboost

    device = settings.device()
    booster = xgboost.Booster({"nthread": settings.number("SCORER_THREADS"), "device": device})
    booster.load_model(folder / "model.ubj")
    used = json.loads(booster.save_config())["learner"]["generic_param"]["device"]
    if not used.startswith(device):
        raise ValueError(f"SCORER_DEVICE is {device}, and XGBoost computes on {used}")

    def many(rows: NDArray[np.float32]) -> NDArray[Any]:
        return np.asarray(booster.inplace_predict(rows, validate_features=False))

    few = forest.read(bytes(booster.save_raw("json")))
    if few and not forest.agrees(few, many, np.zeros((1, booster.num_features()), np.float32)):
        logger.error(
            "%s: its trees, read by NumPy, score otherwise than XGBoost: XGBoost scores alone", folder
        )
        few = None
    if not few:
        return many
    trees = few
    return lambda rows: trees(rows) if len(rows) <= FEW else many(rows)
