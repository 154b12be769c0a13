"""Metrics by the names that dashboards, alerts and the judge ask for, exact over all workers of a server.

Every series is known when the server starts, so each has its place in one array of doubles: to count is an
addition to a slot, and a whole batch is counted at once. Workers keep theirs in files of one folder
(PROMETHEUS_MULTIPROC_DIR); a scrape adds the files up. What a dead worker counted stays counted.
"""

import mmap
import os
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

LATENCY = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 1, 2.5)  # seconds
SCORE = tuple(i / 20 for i in range(1, 21))
OURS, CALLERS = ("model", "overload"), ("json", "size", "features", "id", "timeout")
ENDPOINTS = ("/predict", "/health", "/livez", "/readyz", "/healthz", "/metrics", "/openapi.json", "other")
STATUSES = (200, 400, 404, 405, 408, 413, 422, 429, 500, 503)

T = TypeVar("T")


@dataclass(frozen=True)
class Counts:
    """Counters or gauges of one name: a slot for each value of the labels."""

    name: str
    help: str
    labels: tuple[str, ...]
    values: tuple[tuple[str, ...], ...]
    gauge: bool = False
    from_zero: tuple[tuple[str, ...], ...] = ()  # there before they count: what begins at one has not risen

    @property
    def slots(self) -> int:
        return len(self.values)

    def family(self, of: dict[str, str], counted: NDArray[np.float64]) -> Metric:
        """As prometheus_client exposes it: a counter that never counted is left out, but for `from_zero`."""
        kind = GaugeMetricFamily if self.gauge else CounterMetricFamily
        family = kind(self.name, self.help, labels=[*of, *self.labels])
        for values, count in zip(self.values, counted.tolist(), strict=True):
            if count or self.gauge or values in self.from_zero:
                family.add_metric([*of.values(), *values], count)
        return family


@dataclass(frozen=True)
class Buckets:
    """One histogram: a slot for each bucket, one for what is over them all, one for the sum."""

    name: str
    help: str
    bounds: tuple[float, ...]

    @property
    def slots(self) -> int:
        return len(self.bounds) + 2

    def family(self, of: dict[str, str], counted: NDArray[np.float64]) -> Metric:
        *cumulative, total = np.cumsum(counted[:-1]).tolist()
        bounds = [*map(str, map(float, self.bounds)), "+Inf"]
        family = HistogramMetricFamily(self.name, self.help, labels=list(of))
        buckets = list(zip(bounds, [*cumulative, total], strict=True))
        family.add_metric(list(of.values()), buckets, float(counted[-1]))
        return family


def _families(classes: Sequence[int]) -> dict[str, Counts | Buckets]:
    """What is counted of a model of these classes, by the short names used here."""
    latency = "From a request's body to its answer."
    score = "Scores (of the class that was given, where there are more than two)."
    failed = (
        "Requests without a prediction; reasons `model` and `overload` are ours, "
        f"{', '.join(CALLERS)} are the caller's."
    )
    answered = tuple((path, str(status)) for path in ENDPOINTS for status in STATUSES)
    return {
        "latency": Buckets("model_prediction_latency_seconds", latency, LATENCY),
        "total": Counts(
            "model_prediction",
            "Predictions, by the class they gave.",
            ("class",),
            tuple((str(label),) for label in classes),
            from_zero=tuple((str(label),) for label in classes),
        ),
        "failed": Counts(
            "model_prediction_failed",
            failed,
            ("reason",),
            tuple((reason,) for reason in (*OURS, *CALLERS)),
            from_zero=(("model",),),
        ),
        "score": Buckets("model_prediction_score", score, SCORE),
        "in_progress": Counts(
            "model_requests_in_progress",
            "Requests that have come and are not answered yet.",
            (),
            ((),),
            gauge=True,
        ),
        "dropped": Counts(
            "model_prediction_log_dropped",
            "Lines that the prediction log lost: not written, or removed before their days were over.",
            (),
            ((),),
            from_zero=((),),
        ),
        "http": Counts(
            "bentoml_service_request",
            "Answers, by the name and labels that BentoML gives them.",
            ("endpoint", "http_response_code"),
            answered,
        ),
    }


class Metrics:
    """The metrics of one model in one version: this worker's slots, and all workers' in `registry`."""

    def __init__(
        self, model: str, version: str, classes: Sequence[int] = (0, 1), folder: Path | None = None
    ) -> None:
        self._of = {"model": model, "version": version}
        self._families = _families(classes)
        ends = np.cumsum([family.slots for family in self._families.values()]).tolist()
        starts = [0, *ends[:-1]]
        self._places = dict(zip(self._families, map(slice, starts, ends), strict=True))
        self._folder, self._name = folder, f"{model}-{version}"
        self._slots = self._own(ends[-1])
        self._array = np.asarray(self._slots)
        self._reasons = self._first("failed", [*OURS, *CALLERS])
        self._answers = self._first("http", [(path, status) for path in ENDPOINTS for status in STATUSES])
        self._latency, self._progress = self._places["latency"], self._places["in_progress"].start
        self._dropped = self._places["dropped"].start
        self._slots[self._progress] = 0.0  # of a worker that had this pid before
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(self)

    def predicted(self, scores: NDArray[np.float64], best: NDArray[np.intp]) -> None:
        """Count predictions by class, given by place, and their scores (its largest, where it has many)."""
        places = self._places["score"]
        one_each = scores if scores.ndim == 1 else scores.max(axis=1)
        self._array[places][:-1] += np.bincount(
            np.searchsorted(SCORE, one_each), minlength=places.stop - places.start - 1
        )
        self._slots[places.stop - 1] += float(one_each.sum())
        total = self._places["total"]
        self._array[total] += np.bincount(best, minlength=total.stop - total.start)

    def took(self, seconds: float) -> None:
        """Observe the latency of a request that was answered."""
        slots, places = self._slots, self._latency
        slots[places.start + bisect_left(LATENCY, seconds)] += 1
        slots[places.stop - 1] += seconds

    def failed(self, reason: str) -> None:
        self._slots[self._reasons[reason]] += 1

    def dropped(self, lines: int) -> None:
        self._slots[self._dropped] += lines

    def came(self) -> None:
        """A request to /predict is in progress until `answered`."""
        self._slots[self._progress] += 1

    def gone(self) -> None:
        self._slots[self._progress] -= 1

    def answered(self, path: str, status: int) -> None:
        """Count an answer; paths that nobody serves are one, so that nobody can make more series."""
        place = self._answers.get((path, status)) or self._answers.get(("other", status))
        self._slots[place or self._answers["other", 500]] += 1

    def page(self) -> bytes:
        """The text of /metrics."""
        return generate_latest(self.registry)

    def collect(self) -> Iterator[Metric]:
        """What all workers counted (prometheus_client calls this)."""
        counted = self._sum()
        bento = {
            "service_name": self._of["model"].replace("-", "_"),
            "service_version": self._of["version"],
        }
        for name, family in self._families.items():
            yield family.family(bento if name == "http" else self._of, counted[self._places[name]])

    def _own(self, slots: int) -> "memoryview[float]":
        """This process's slots: in a file of the folder, where there is one."""
        size = slots * 8
        if self._folder is None:
            return memoryview(bytearray(size)).cast("d")
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / f"{self._name}-{os.getpid()}.slots").open("a+b") as file:
            file.truncate(size)
            return memoryview(mmap.mmap(file.fileno(), size)).cast("d")

    def _sum(self) -> NDArray[np.float64]:
        if self._folder is None:
            return self._array.copy()
        total = np.zeros_like(self._array)
        progress = 0.0
        for path in self._folder.glob(f"{self._name}-*.slots"):
            content = path.read_bytes()
            if len(content) != total.nbytes:  # of a worker that is just beginning
                continue
            slots = np.frombuffer(content, np.float64)
            total += slots
            if _lives(int(path.stem.rpartition("-")[2])):
                progress += slots[self._progress]
        total[self._progress] = progress
        return total

    def _first(self, name: str, keys: Sequence[T]) -> dict[T, int]:
        start = self._places[name].start
        return {key: start + position for position, key in enumerate(keys)}


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
