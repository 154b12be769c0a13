"""Counts how one track answered, from its metrics."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise
from math import inf

from loop.core.errors import LoopError
from loop.core.text import one_line
from loop.monitoring.fetch import fetch
from loop.stats.stability import psi

LATENCY = "model_prediction_latency_seconds"
SCORE = "model_prediction_score"
FAILED = "model_prediction_failed"
HTTP = "bentoml_service_request"  # BentoML's counter; it includes requests that failed before the model
REASONS = {"model": "failed", "overload": "refused"}  # values of label `reason`; others are callers' mistakes
HIGHEST = 1e15  # largest value of a counter that is accepted
TIMEOUT, PAGE = 10.0, 2_000_000  # limits of a metrics page in seconds and bytes, as in the PodMonitor
LINE = 4096  # longest line of a metrics page, because the parser's time grows with the square of its length


@dataclass(frozen=True)
class Histogram:
    """A histogram as counts by upper bound; each bucket excludes the buckets below it."""

    counts: dict[float, float] = field(default_factory=dict)

    @classmethod
    def of_cumulative(cls, cumulative: dict[float, float]) -> "Histogram":
        """Build a histogram from Prometheus' cumulative buckets; a decreasing bucket counts as empty."""
        bounds = sorted(cumulative)
        counts = [0.0, *accumulate((cumulative[bound] for bound in bounds), max)]
        return cls({bound: more - less for bound, (less, more) in zip(bounds, pairwise(counts), strict=True)})

    @property
    def total(self) -> float:
        return sum(self.counts.values())

    def minus(self, other: "Histogram") -> "Histogram":
        """Subtract another histogram, with zero as the minimum, because a restart sets counters back."""
        left = {bound: count - other.counts.get(bound, 0) for bound, count in self.counts.items()}
        return Histogram({bound: max(0.0, count) for bound, count in left.items()})

    def psi(self, current: "Histogram") -> float:
        """Return the population stability index of `current` against this histogram, by shared bounds."""
        shared = sorted(set(self.counts) & set(current.counts))
        return psi(*(side.within(shared) for side in (self, current)))

    def within(self, bounds: list[float]) -> list[float]:
        """Return the counts between the given bounds of this histogram, and above the last."""
        found = [0.0] * (len(bounds) + 1)
        for bound, count in self.counts.items():
            found[bisect_left(bounds, bound)] += count
        return found

    def quantile(self, share: float) -> float:
        """Return the value below which `share` of the counts lie, interpolated linearly within its bucket.

        Raises LoopError if the histogram is empty.
        """
        if not self.total:
            raise LoopError("an empty histogram has no quantile")
        wanted, low = share * self.total, 0.0
        for bound in sorted(set(self.counts) - {float("inf")}):
            if self.counts[bound] and wanted <= self.counts[bound]:
                return low + (bound - low) * wanted / self.counts[bound]
            wanted -= self.counts[bound]
            low = bound
        return low

    def above(self, value: float) -> float:
        """Return how many counts exceed `value`, interpolated linearly; the last bucket counts in full."""
        found, low = 0.0, 0.0
        for bound in sorted(self.counts):
            part = 1.0 if bound == float("inf") else (bound - max(low, value)) / (bound - low)
            found += self.counts[bound] * max(0.0, part)
            low = bound
        return found


@dataclass(frozen=True)
class Sample:
    """One release's answers over a period; callers' own mistakes (4xx other than 429) are not counted."""

    requests: float = 0.0  # number of requests that were answered or failed
    failed: float = 0.0
    latency: Histogram = field(default_factory=Histogram)  # latency of the answers in seconds
    scores: Histogram = field(default_factory=Histogram)
    refused: float = 0.0  # number of 429 answers (overload), which no other field includes
    skipped: tuple[str, ...] = ()  # messages about series that could not be read

    def since(self, before: "Sample") -> "Sample":
        """Return the answers after `before`, or all of them if a restart has reset the counters."""
        if self.fewer_than(before):
            return self
        return replace(
            self,
            requests=self.requests - before.requests,
            failed=self.failed - before.failed,
            latency=self.latency.minus(before.latency),
            scores=self.scores.minus(before.scores),
            refused=self.refused - before.refused,
        )

    def fewer_than(self, before: "Sample") -> bool:
        """Return whether a counter is lower than in `before`, which means that the server restarted."""
        return self.requests < before.requests or self.refused < before.refused


class Unread(LoopError):
    """Metrics cannot be read or lack a release, so they say nothing good or bad about it."""


@dataclass
class Scrape:
    """Reads the /metrics page of one server process, which `url` must reach at every check.

    A page has no history. So `since` means since the first call with that value or, with `from_start`, since
    the server started.
    """

    url: str
    from_start: bool = False
    _bases: dict[tuple[str, float], Sample] = field(default_factory=dict)

    def sample(self, version: str, since: float) -> Sample:
        """Return a release's answers, zeros if there are none. Raises Unread if the page is unreadable."""
        import httpx

        try:
            answer = fetch(f"{self.url}/metrics", TIMEOUT, PAGE)
        except httpx.HTTPError as error:
            raise Unread(f"metrics cannot be read: {error}") from error
        if not answer.good:
            raise Unread(f"metrics cannot be read: {self.url}/metrics answers {answer.status}")
        found = parse(answer.body.decode(errors="replace"), version)
        if self.from_start:
            return found
        base = self._bases.setdefault((version, since), found)
        if found.fewer_than(base):  # the server restarted, so its counters began again at zero
            base = self._bases[version, since] = Sample()
        return found.since(base)

    def unlike(self, version: str, pods: int) -> str | None:
        """Return None, because a single server cannot know of other pods."""
        return None


Row = tuple[str, Mapping[str, str], float]  # name, labels and value of a time series


def parse(text: str, version: str) -> Sample:
    """Parse Prometheus' text format. Raises Unread if a line is malformed, as Prometheus would."""
    from prometheus_client.parser import text_string_to_metric_families

    if max(map(len, text.split("\n"))) > LINE:
        raise Unread(f"metrics cannot be read: a line is longer than {LINE} characters")
    try:
        rows = [row for family in text_string_to_metric_families(text) for row in family.samples]
    except Exception as error:
        why = one_line(f"{type(error).__name__}: {error}", 200)
        raise Unread(f"metrics cannot be read: {why}") from error
    return of_rows(((row.name, row.labels, row.value) for row in rows), version)


def of_rows(rows: Iterable[Row], version: str) -> Sample:
    """Sum up a release's series.

    Failed requests are the 5xx answers or the model's own failure count, whichever is greater; refused
    requests are the 429 answers or the app's own count of refusals, whichever is greater. A series is skipped
    if it lacks a required label, or has a bucket bound or value that no counter can have.
    """
    cumulative: dict[str, dict[float, float]] = {LATENCY: defaultdict(float), SCORE: defaultdict(float)}
    bad: dict[str, dict[str, float]] = {"failed": defaultdict(float), "refused": defaultdict(float)}
    least, skipped = {LATENCY: 0.0, SCORE: -inf}, []
    for name, labels, value in rows:
        ours, histogram = version in versions(labels), name.removesuffix("_bucket")
        try:
            if ours and name.endswith("_bucket") and histogram in cumulative:
                cumulative[histogram][_bound(said(labels, "le"), least[histogram])] += counted(value)
            elif ours and (kind := _kind(name, labels)):
                bad[kind][name] += counted(value)
        except KeyError as error:
            skipped.append(f"{name} has no label {error}")
        except ValueError as error:
            skipped.append(f"{name}: {error}")
    latency, scores = (Histogram.of_cumulative(cumulative[name]) for name in (LATENCY, SCORE))
    failed, refused = (max(counts.values(), default=0.0) for counts in bad.values())
    return Sample(latency.total + failed, failed, latency, scores, refused, tuple(skipped))


def _kind(name: str, labels: Mapping[str, str]) -> str | None:
    """Return "failed" or "refused" if a counter counts such requests, else None."""
    if name == f"{FAILED}_total":
        return REASONS.get(said(labels, "reason"))
    if name == f"{HTTP}_total" and said(labels, "endpoint") == "/predict":
        code = said(labels, "http_response_code")
        return "refused" if code == "429" else "failed" if code.startswith("5") else None
    return None


def said(labels: Mapping[str, str], name: str) -> str:
    """Return the value of a label that the pod set. Raises KeyError if the pod set none.

    If the scrape target has a label of the same name, Prometheus renames the pod's label to `exported_<name>`
    unless `honorLabels` is set.
    """
    return labels.get(f"exported_{name}") or labels[name]


def versions(labels: Mapping[str, str]) -> set[str]:
    """Return the releases that a series names by `version` or, in BentoML's metrics, `service_version`."""
    found = set()
    for name in ("version", "service_version"):
        with suppress(KeyError):
            found.add(said(labels, name))
    return found


def counted(value: float | str) -> float:
    """Return a counter's value as a number. Raises ValueError unless it is from 0 to HIGHEST."""
    if not 0 <= (number := float(value)) <= HIGHEST:
        raise ValueError(f"its value is {number:g}")
    return number


def _bound(le: str, least: float) -> float:
    """Return the upper bound of a bucket. Raises ValueError unless it is a number above `least`."""
    try:
        bound = float(le)
    except ValueError:
        bound = float("nan")
    if not bound > least:
        raise ValueError(f"le is {one_line(ascii(le), 40)}")
    return bound
