"""What one track answered, as its metrics count it."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Protocol

from loop.core.errors import LoopError

LATENCY = "model_prediction_latency_seconds"
SCORE = "model_prediction_score"
FAILED = "model_prediction_failed"
HTTP = "bentoml_service_request"  # also counts what failed before it came to the model


@dataclass(frozen=True)
class Histogram:
    """Counts by upper bound, each bucket without the ones below it."""

    counts: dict[float, float] = field(default_factory=dict)

    @classmethod
    def of_cumulative(cls, cumulative: dict[float, float]) -> "Histogram":
        """From Prometheus' buckets, each of which counts the ones below it too."""
        bounds = sorted(cumulative)
        below = [0.0, *(cumulative[bound] for bound in bounds)]
        return cls({bound: cumulative[bound] - less for bound, less in zip(bounds, below, strict=False)})

    @property
    def total(self) -> float:
        return sum(self.counts.values())

    def minus(self, other: "Histogram") -> "Histogram":
        return Histogram({bound: count - other.counts.get(bound, 0) for bound, count in self.counts.items()})

    def quantile(self, share: float) -> float:
        """The value that `share` of the counts lie below, linear within its bucket; LoopError when empty."""
        wanted, low = share * self.total, 0.0
        for bound in sorted(self.counts):
            if self.counts[bound] and wanted <= self.counts[bound]:
                return low if bound == float("inf") else low + (bound - low) * wanted / self.counts[bound]
            wanted -= self.counts[bound]
            low = bound
        raise LoopError("an empty histogram has no quantile")

    def above(self, value: float) -> float:
        """How many counts are above `value`, linear within its bucket; all of the last, which has no end."""
        found, low = 0.0, 0.0
        for bound in sorted(self.counts):
            part = 1.0 if bound == float("inf") else (bound - max(low, value)) / (bound - low)
            found += self.counts[bound] * max(0.0, part)
            low = bound
        return found


@dataclass(frozen=True)
class Sample:
    """One release's answers over some time. A caller's own mistakes (4xx) are in none of the numbers."""

    requests: float = 0.0  # answered or failed
    failed: float = 0.0
    latency: Histogram = field(default_factory=Histogram)  # seconds
    scores: Histogram = field(default_factory=Histogram)

    def since(self, before: "Sample") -> "Sample":
        """What came after `before`; all of it where a restart has begun the counters anew."""
        if self.requests < before.requests:
            return self
        return Sample(
            self.requests - before.requests,
            self.failed - before.failed,
            self.latency.minus(before.latency),
            self.scores.minus(before.scores),
        )


class Reader(Protocol):
    """Where a track's sample is read."""

    def sample(self, version: str) -> Sample:
        """All that `version` has answered up to now."""


@dataclass(frozen=True)
class Scrape:
    """Reads a track's own /metrics. `url` must reach one and the same process group at every look."""

    url: str

    def sample(self, version: str) -> Sample:
        """Read what `version` has answered; all zeros where it has answered nothing."""
        import httpx

        answer = httpx.get(f"{self.url}/metrics", timeout=10)
        answer.raise_for_status()
        return parse(answer.text, version)


def parse(text: str, version: str) -> Sample:
    """Read Prometheus' text format. Failed are 5xx answers, or the model's own failures if they are more."""
    from prometheus_client.parser import text_string_to_metric_families

    cumulative: dict[str, dict[float, float]] = {LATENCY: defaultdict(float), SCORE: defaultdict(float)}
    failed = {HTTP: 0.0, FAILED: 0.0}
    for family in text_string_to_metric_families(text):
        for row in family.samples:
            ours = row.labels.get("version") == version
            if ours and family.name in cumulative and row.name.endswith("_bucket"):
                cumulative[family.name][float(row.labels["le"])] += row.value
            elif ours and row.name == f"{FAILED}_total" and row.labels["reason"] == "model":
                failed[FAILED] += row.value
            elif row.name == f"{HTTP}_total" and _server_error(row.labels, version):
                failed[HTTP] += row.value
    latency, scores = (Histogram.of_cumulative(cumulative[name]) for name in (LATENCY, SCORE))
    errors = max(failed.values())
    return Sample(latency.total + errors, errors, latency, scores)


def _server_error(labels: dict[str, str], version: str) -> bool:
    ours = (labels["endpoint"], labels["service_version"]) == ("/predict", version)
    return ours and labels["http_response_code"].startswith("5")
