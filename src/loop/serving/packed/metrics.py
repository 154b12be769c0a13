"""Metrics by the names that dashboards, alerts and the judge ask for; `/metrics` is BentoML's."""

from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prometheus_client import Counter, Gauge, Histogram

OF = ("model", "version")

LATENCY = Histogram(
    "model_prediction_latency_seconds",
    "From a request's body to its answer.",
    OF,
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 1, 2.5),
)
TOTAL = Counter("model_prediction", "Predictions, by the class they gave.", (*OF, "class"))
FAILED = Counter(
    "model_prediction_failed",
    "Requests without a prediction; reason `model` is ours, json, size, features and id are the caller's.",
    (*OF, "reason"),
)
SCORE = Histogram(
    "model_prediction_score",
    "Scores (of the class that was given, where there are more than two).",
    OF,
    buckets=[i / 20 for i in range(1, 21)],
)
IN_PROGRESS = Gauge(
    "model_requests_in_progress",
    "Requests that have come and are not answered yet.",
    OF,
    multiprocess_mode="livesum",
)
DROPPED = Counter("model_prediction_log_dropped", "Lines that the prediction log could not keep.", OF)


class Metrics:
    """The metrics of one model in one version."""

    def __init__(self, model: str, version: str) -> None:
        self._of = (model, version)
        self.latency = LATENCY.labels(*self._of)
        self.dropped = DROPPED.labels(*self._of)
        self._score = SCORE.labels(*self._of)
        self._in_progress = IN_PROGRESS.labels(*self._of)
        FAILED.labels(*self._of, "model")  # there from zero: what begins at one has not risen, says rate()

    def predicted(self, scores: NDArray[Any], classes: list[int]) -> None:
        """Count predictions, and observe each score (its largest, where it has one a class)."""
        for label in classes:
            TOTAL.labels(*self._of, str(label)).inc()
        for score in scores if scores.ndim == 1 else np.max(scores, axis=1):
            self._score.observe(float(score))

    def in_progress(self) -> AbstractContextManager[None]:
        """Count a request as in progress until the block ends, however it ends."""
        return self._in_progress.track_inprogress()

    def failed(self, reason: str) -> None:
        FAILED.labels(*self._of, reason).inc()
