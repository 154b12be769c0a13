"""Bytes in, bytes out: what /predict does, whichever server is around it."""

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from time import perf_counter
from typing import Any

import msgspec

from loop.serving.packed.log import Line, PredictionLog
from loop.serving.packed.metrics import Metrics
from loop.serving.packed.model import Model
from loop.serving.packed.rows import BadRequest, Rows, parse

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Predictor:
    """One model, its metrics and its log. `log` is None where nobody asked for one."""

    model: Model
    metrics: Metrics
    log: PredictionLog | None
    max_rows: int

    def predict(self, body: bytes) -> tuple[int, bytes]:
        """The status and the JSON that answer a request's body."""
        start = perf_counter()
        try:
            rows = parse(body, self.model.meta.features, self.max_rows)
            answer = self._answer(rows)
        except BadRequest as bad:
            return self.refuse(bad)
        except Exception:
            logger.exception("the model failed")
            self.metrics.failed("model")
            return 500, msgspec.json.encode({"error": "the model failed: see the server's log", "field": ""})
        self.metrics.latency.observe(perf_counter() - start)
        return 200, msgspec.json.encode(answer)

    def refuse(self, bad: BadRequest) -> tuple[int, bytes]:
        """The status and the JSON of a request that can't be answered."""
        self.metrics.failed(bad.reason)
        return bad.status, msgspec.json.encode({"error": bad.error, "field": bad.field})

    def _answer(self, rows: Rows) -> dict[str, Any]:
        values = self.model.score(rows.values)
        classes, scores = self.model.classes(values), values.tolist()
        self.metrics.predicted(values, classes)
        if self.log:
            self._record(self.log, rows, scores, classes)
        answer: dict[str, Any] = {"model_version": self.model.release.key}
        if rows.named:
            answer["id"] = rows.ids if rows.many else rows.ids[0]
        if rows.many:
            return {**answer, "score": scores, "class": classes}
        return {**answer, "score": scores[0], "class": classes[0]}

    def _record(self, log: PredictionLog, rows: Rows, scores: list[Any], classes: list[int]) -> None:
        now, release = datetime.now(UTC).isoformat(), self.model.release
        for i, features in enumerate(rows.values.tolist()):
            log.write(Line(now, rows.ids[i], release.model, release.key, features, scores[i], classes[i]))
