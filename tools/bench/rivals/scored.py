"""The part that the compared servers share: the model as an XGBoost Booster, with our metrics and log.

The metrics are written with prometheus_client, as a team would write them. The prediction log is our own with
its thread, so that no compared server is slow because of its logging.
"""

import os
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import xgboost
from prometheus_client import Counter, Gauge, Histogram

from loop.runtime.log import PredictionLog
from loop.runtime.metrics import LATENCY, SCORE
from loop.runtime.model import Meta, Release

OF = ["model", "version"]


class Model:
    """The model in the folder BENTO, a bento's src/; it counts and logs its predictions."""

    def __init__(self) -> None:
        folder = Path(os.environ["BENTO"])
        self.release = msgspec.json.decode((folder / "release.json").read_bytes(), type=Release)
        self.meta = msgspec.json.decode((folder / "model" / "meta.json").read_bytes(), type=Meta)
        self._booster = xgboost.Booster({"nthread": 1})
        self._booster.load_model(folder / "model" / "model.ubj")
        of = {"model": self.release.model, "version": self.release.key}
        self._latency = Histogram("model_prediction_latency_seconds", "…", OF, buckets=LATENCY).labels(**of)
        self._score = Histogram("model_prediction_score", "…", OF, buckets=SCORE).labels(**of)
        total = Counter("model_prediction_total", "…", [*OF, "class"])
        self._total = {label: total.labels(*of.values(), label) for label in self.meta.classes}
        self._progress = Gauge("model_requests_in_progress", "…", OF).labels(**of)
        self._dropped = Counter("model_prediction_log_dropped_total", "…", OF).labels(**of)
        self._log = PredictionLog(Path(os.environ["PREDICTION_LOG_DIR"]), self.release, self._dropped.inc)

    def one(self, row: Any, id_: Any) -> dict[str, Any]:
        """Return the answer to a request with one row."""
        scores, classes = self.predict([row], [id_])
        return {"model_version": self.release.key, "score": scores[0], "class": classes[0], "id": id_}

    def many(self, rows: Any) -> dict[str, Any]:
        """Return the answer to a request with many rows."""
        scores, classes = self.predict(rows)
        return {"model_version": self.release.key, "score": scores, "class": classes}

    def predict(self, rows: Any, ids: list[Any] | None = None) -> tuple[list[float], list[int]]:
        """Return the scores and classes of rows of shape (n, f), and count and log them."""
        with self._progress.track_inprogress(), self._latency.time():
            values = np.asarray(rows, np.float32)
            scores = self._booster.inplace_predict(values).tolist()
            classes = [int(score >= self.meta.threshold) for score in scores]
            for score, label in zip(scores, classes, strict=True):
                self._score.observe(score)
                self._total[label].inc()
            self._log.write(ids or [None] * len(scores), values, scores, classes)
        return scores, classes
