"""XGBoost's own Booster as a scorer: no pandas, no scikit-learn."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loop.serving.packed.model import Scorer


def load(folder: Path) -> Scorer:
    """The scorer of `folder`/model.ubj; SCORER_THREADS threads a prediction, 1 unless set."""
    import xgboost

    booster = xgboost.Booster({"nthread": int(os.environ.get("SCORER_THREADS", "1"))})
    booster.load_model(folder / "model.ubj")

    def score(rows: NDArray[np.float32]) -> NDArray[Any]:
        return np.asarray(booster.inplace_predict(rows))

    return score
