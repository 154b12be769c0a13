"""What one track answered, as its metrics count it."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from math import inf
from typing import Protocol

from loop.core.errors import LoopError
from loop.core.text import one_line
from loop.monitoring.fetch import get
from loop.stats.stability import psi

LATENCY = "model_prediction_latency_seconds"
SCORE = "model_prediction_score"
FAILED = "model_prediction_failed"
HTTP = "bentoml_service_request"  # also counts what failed before it came to the model
REASONS = {"model": "failed", "overload": "refused"}  # of FAILED; other reasons are the caller's mistakes
HIGHEST = 1e15  # of a counter that is believed
TIMEOUT, PAGE = 10.0, 2_000_000  # seconds and bytes that a page of metrics may take, as in the PodMonitor
LINE = 4096  # characters of one of its lines: the parser's time grows with the square of a line


@dataclass(frozen=True)
class Histogram:
    """Counts by upper bound, each bucket without the ones below it."""

    counts: dict[float, float] = field(default_factory=dict)

    @classmethod
    def of_cumulative(cls, cumulative: dict[float, float]) -> "Histogram":
        """From Prometheus' buckets, each of which counts the ones below it too, even where it says less."""
        bounds = sorted(cumulative)
        counts = [0.0, *accumulate((cumulative[bound] for bound in bounds), max)]
        return cls({bound: more - less for bound, (less, more) in zip(bounds, pairwise(counts), strict=True)})

    @property
    def total(self) -> float:
        return sum(self.counts.values())

    def minus(self, other: "Histogram") -> "Histogram":
        """What is here and not in `other`; nothing where that has more, as after a restart."""
        left = {bound: count - other.counts.get(bound, 0) for bound, count in self.counts.items()}
        return Histogram({bound: max(0.0, count) for bound, count in left.items()})

    def psi(self, current: "Histogram") -> float:
        """How far `current` has moved from this one, by the bounds that both have."""
        shared = sorted(set(self.counts) & set(current.counts))
        return psi(*(side.within(shared) for side in (self, current)))

    def within(self, bounds: list[float]) -> list[float]:
        """Counts between some of this histogram's bounds, and above the last."""
        found = [0.0] * (len(bounds) + 1)
        for bound, count in self.counts.items():
            found[bisect_left(bounds, bound)] += count
        return found

    def quantile(self, share: float) -> float:
        """The value that `share` of the counts lie below, linear within its bucket; LoopError when empty."""
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
        """How many counts are above `value`, linear within its bucket; all of the last, which has no end."""
        found, low = 0.0, 0.0
        for bound in sorted(self.counts):
            part = 1.0 if bound == float("inf") else (bound - max(low, value)) / (bound - low)
            found += self.counts[bound] * max(0.0, part)
            low = bound
        return found


@dataclass(frozen=True)
class Sample:
    """One release's answers over some time. A caller's own mistakes (other 4xx) are in no number."""

    requests: float = 0.0  # answered or failed
    failed: float = 0.0
    latency: Histogram = field(default_factory=Histogram)  # seconds
    scores: Histogram = field(default_factory=Histogram)
    refused: float = 0.0  # with 429, because too many waited: in none of the other numbers
    skipped: tuple[str, ...] = ()  # series that say nothing readable, and why

    def since(self, before: "Sample") -> "Sample":
        """What came after `before`; all of it where a restart has begun the counters anew."""
        if self.fewer_than(before):
            return self
        return Sample(
            self.requests - before.requests,
            self.failed - before.failed,
            self.latency.minus(before.latency),
            self.scores.minus(before.scores),
            self.refused - before.refused,
            self.skipped,
        )

    def fewer_than(self, before: "Sample") -> bool:
        """Whether a counter is lower than it was, as after a restart."""
        return self.requests < before.requests or self.refused < before.refused


class Unread(LoopError):
    """Metrics can't be read, or say nothing of a release: no reason to think well or ill of it."""


class Reader(Protocol):
    """Where a track's metrics are read."""

    def sample(self, version: str, since: float) -> Sample:
        """What `version` has answered since that Unix time; Unread where nothing is known."""

    def unlike(self, version: str, pods: int) -> str | None:
        """What of the track is not, or not yet, so many pods of that version; None where all of it is."""


@dataclass
class Scrape:
    """Reads a track's own /metrics. `url` must reach one and the same process at every look.

    It knows no past: "since" is since it was first asked so, or with `from_start` since the server began.
    """

    url: str
    from_start: bool = False
    _bases: dict[tuple[str, float], Sample] = field(default_factory=dict)

    def sample(self, version: str, since: float) -> Sample:
        """Read what `version` has answered; all zeros where it has answered nothing."""
        import httpx

        try:
            answer = get(f"{self.url}/metrics", TIMEOUT, PAGE)
        except httpx.HTTPError as error:
            raise Unread(f"metrics can't be read: {error}") from error
        if not answer.good:
            raise Unread(f"metrics can't be read: {self.url}/metrics answers {answer.status}")
        found = parse(answer.body.decode(errors="replace"), version)
        if self.from_start:
            return found
        base = self._bases.setdefault((version, since), found)
        if found.fewer_than(base):  # a restarted server's counters begin at nothing
            base = self._bases[version, since] = Sample()
        return found.since(base)

    def unlike(self, version: str, pods: int) -> str | None:
        """Nothing: one server is what its /health says, and it knows of no other pods."""
        return None


Row = tuple[str, Mapping[str, str], float]  # a series' name, its labels, its value


def parse(text: str, version: str) -> Sample:
    """Read Prometheus' text format; Unread if a line is malformed, as Prometheus rejects such a page."""
    from prometheus_client.parser import text_string_to_metric_families

    if max(map(len, text.split("\n"))) > LINE:
        raise Unread(f"metrics can't be read: a line is over {LINE} characters")
    try:
        rows = [row for family in text_string_to_metric_families(text) for row in family.samples]
    except Exception as error:
        raise Unread(f"metrics can't be read: {one_line(f'{type(error).__name__}: {error}', 200)}") from error
    return of_rows(((row.name, row.labels, row.value) for row in rows), version)


def of_rows(rows: Iterable[Row], version: str) -> Sample:
    """Add up a release's series. Failed are 5xx answers, or the model's own failures if they are more.

    Refused are answers 429, or the app's own refusals if they are more. A series without a label that it must
    have, or with a bound or a value that no counter has, is skipped.
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
    """Whether a counter is of requests that failed or that were refused; None where it is of neither."""
    if name == f"{FAILED}_total":
        return REASONS.get(said(labels, "reason"))
    if name == f"{HTTP}_total" and said(labels, "endpoint") == "/predict":
        code = said(labels, "http_response_code")
        return "refused" if code == "429" else "failed" if code.startswith("5") else None
    return None


def said(labels: Mapping[str, str], name: str) -> str:
    """A label that the pod gave; KeyError where it gave none.

    Where the target has a label of that name too, Prometheus calls the pod's own `exported_…`, unless it
    honours labels.
    """
    return labels.get(f"exported_{name}") or labels[name]


def versions(labels: Mapping[str, str]) -> set[str]:
    """The releases that a pod's series names: `version`, or `service_version` as BentoML calls it."""
    found = set()
    for name in ("version", "service_version"):
        with suppress(KeyError):
            found.add(said(labels, name))
    return found


def counted(value: float | str) -> float:
    """A counter's value; ValueError if it is not from 0 to HIGHEST."""
    if not 0 <= (number := float(value)) <= HIGHEST:
        raise ValueError(f"its value is {number:g}")
    return number


def _bound(le: str, least: float) -> float:
    """The upper bound of a bucket; ValueError if it is not a number over `least`."""
    try:
        bound = float(le)
    except ValueError:
        bound = float("nan")
    if not bound > least:
        raise ValueError(f"le is {one_line(ascii(le), 40)}")
    return bound
