"""Prometheus metrics, with the names that dashboards, alerts and the canary judge query.

Counters and gauges are prometheus_client's. Histograms are implemented here, because prometheus_client
observes one value at a time, and a request may have a thousand rows.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics, generate_latest
from prometheus_client.core import HistogramMetricFamily, Metric

# bucket boundaries of the histograms of latency, in seconds, and of scores
LATENCY = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 1, 2.5)
SCORE = tuple(i / 20 for i in range(1, 21))
OURS, CALLERS = ("model", "overload"), ("json", "encoding", "size", "features", "timeout")
ENDPOINTS = ("/predict", "/health", "/livez", "/readyz", "/healthz", "/metrics", "/openapi.json", "/v2")

# prometheus_client would otherwise export an additional series `_created` for each counter.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Histogram:
    """A histogram that can observe an array of values in one call."""

    def __init__(
        self, registry: CollectorRegistry, name: str, text: str, of: dict[str, str], bounds: Sequence[float]
    ) -> None:
        self._name, self._text, self._of = name, text, of
        self._bounds, self._edges = bounds, np.array(bounds)
        self._counts, self._sum = [0] * (len(bounds) + 1), 0.0
        registry.register(self)

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def observe_all(self, values: NDArray[np.float64]) -> None:
        places = np.bincount(self._edges.searchsorted(values), minlength=len(self._counts))
        self._counts = [count + more for count, more in zip(self._counts, places.tolist(), strict=True)]
        self._sum += float(values.sum())

    def collect(self) -> Iterator[Metric]:
        """Yield the histogram in the form that prometheus_client's registry expects."""
        bounds = [*map(str, map(float, self._bounds)), "+Inf"]
        family = HistogramMetricFamily(self._name, self._text, labels=list(self._of))
        buckets = list(zip(bounds, accumulate(self._counts), strict=True))
        family.add_metric(list(self._of.values()), buckets, self._sum)
        yield family


class Metrics:
    """The metrics of one model version."""

    def __init__(
        self,
        model: str,
        version: str,
        classes: Sequence[int | str] = (0, 1),
        p99_ms: float | None = None,
        score_edges: Sequence[float] = SCORE,
    ) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self._of = of = {"model": model, "version": version}

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, [*of, *labels], registry=self.registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(name, text, list(of), registry=self.registry).labels(**of)

        # A bucket boundary at the SLA's latency makes the share of slower requests exact, not interpolated.
        bounds = sorted({*LATENCY, p99_ms / 1000}) if p99_ms else LATENCY
        text = "Time from the end of a request's body to its response."
        self._latency = Histogram(self.registry, "model_prediction_latency_seconds", text, of, bounds)
        if p99_ms:
            text = "Latency that 99 % of requests must not exceed."
            gauge("model_sla_latency_seconds", text).set(p99_ms / 1000)
        text = "Predictions, by predicted class if the model has classes."
        total = counter("model_prediction", text, "class")
        self._total = [total.labels(**of, **{"class": str(label)}) for label in classes]
        text = "Requests without a prediction, by reason: the server causes `model` and `overload`, callers"
        self._failed = counter("model_prediction_failed", f"{text} cause {', '.join(CALLERS)}.", "reason")
        # Alerts use these counters, so they are exported as 0; otherwise rate() misses the first increment.
        for reason in OURS:
            self._failed.labels(**of, reason=reason)
        text = (
            "Scores (with more than two classes, of the most probable one), predicted values, or cosines"
            " between vectors and the centre of the training rows."
        )
        self._score = Histogram(self.registry, "model_prediction_score", text, of, score_edges)
        # the number of requests is a plain integer, because only the event loop's thread changes it
        self._in_progress = 0
        text = "Requests that were received and are not answered yet."
        gauge("model_requests_in_progress", text).set_function(lambda: self._in_progress)
        text = (
            "Lines that the prediction log lost: never written, or deleted early because the disk was full."
        )
        self.dropped = counter("model_prediction_log_dropped", text).labels(**of).inc
        labels = ["service_name", "service_version", "endpoint", "http_response_code"]
        text = "Responses, with the metric name and labels of BentoML."
        self._http = Counter("bentoml_service_request", text, labels, registry=self.registry)
        service = model.replace("-", "_")
        self._answers = cache(lambda path, status: self._http.labels(service, version, path, str(status)))

    def predicted(self, scores: NDArray[np.float64], best: NDArray[np.intp]) -> None:
        """Count predictions by class, and observe their scores, both (n,); `best` are indexes of classes."""
        self._score.observe_all(scores)
        counts = np.bincount(best, minlength=len(self._total)).tolist()
        for counter, count in zip(self._total, counts, strict=True):
            counter.inc(count)

    def took(self, seconds: float) -> None:
        self._latency.observe(seconds)

    def failed(self, reason: str) -> None:
        self._failed.labels(**self._of, reason=reason).inc()

    def came(self) -> None:
        self._in_progress += 1

    def gone(self) -> None:
        self._in_progress -= 1

    def answered(self, path: str, status: int) -> None:
        """Count a response; unknown paths share one label, so that callers cannot create series."""
        self._answers(path if path in ENDPOINTS else "other", status).inc()

    def page(self) -> bytes:
        return generate_latest(self.registry)
