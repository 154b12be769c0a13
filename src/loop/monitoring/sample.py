"""Counts how one track answered, from its metrics."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from math import inf, nan
from typing import Any

from loop.core.errors import LoopError
from loop.core.text import one_line
from loop.monitoring.fetch import fetch
from loop.stats.stability import psi

LATENCY = "model_prediction_latency_seconds"
SCORE = "model_prediction_score"
FAILED = "model_prediction_failed"
HTTP = "bentoml_service_request"  # BentoML's counter; it includes requests that failed before the model
SERIES = (f"{LATENCY}_bucket", f"{SCORE}_bucket", f"{FAILED}_total", f"{HTTP}_total")
VERSIONS = ("version", "service_version")  # labels that name the release; the second one is BentoML's
REASONS = {"model": "failed", "overload": "refused"}  # values of label `reason`; others are callers' mistakes
LEAST = {LATENCY: 0.0, SCORE: -inf}  # every bucket's upper bound is above this
HIGHEST = 1e15  # largest value of a counter that is accepted
TIMEOUT, PAGE = 10.0, 2_000_000  # limits of a metrics page in seconds and bytes, as in the PodMonitor
LINE = 4096  # longest line of a metrics page, because the parser's time grows with the square of its length
Labels = tuple[tuple[str, str], ...]  # a series' labels and name, sorted


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
        """Return the value below which `share` of the counts lie, interpolated linearly within its bucket."""
        wanted, low = share * self.total, 0.0
        for bound in sorted(set(self.counts) - {inf}):
            if self.counts[bound] and wanted <= self.counts[bound]:
                return low + (bound - low) * wanted / self.counts[bound]
            wanted -= self.counts[bound]
            low = bound
        return low

    def above(self, value: float) -> float:
        """Return how many counts exceed `value`, interpolated linearly; the last bucket counts in full."""
        found, low = 0.0, 0.0
        for bound in sorted(self.counts):
            part = 1.0 if bound == inf else (bound - max(low, value)) / (bound - low)
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
    skipped: frozenset[str] = frozenset()  # messages about series that could not be read


class Unread(LoopError):
    """Metrics cannot be read or lack a release, so they say nothing good or bad about it."""


@dataclass
class Count:
    """One series' counter: what it counts, its last scrape, and its increase since a given time."""

    of: tuple[str, float | str]
    at: float
    value: float
    gained: float

    def add(self, at: float, value: float, since: float) -> None:
        """Add a later scrape; a smaller value means that the container restarted, counting from zero."""
        if at <= self.at:
            return
        new = value - self.value if value >= self.value else value
        self.at, self.value = at, value
        self.gained = self.gained + new if at > since else 0.0


@dataclass
class Counted:
    """The increases of one release's series since a given time."""

    version: str = ""
    asked: float = 0.0  # the requested start of counting
    since: float = 0.0  # the start of counting
    seen: float = 0.0  # time of the newest scrape
    counts: dict[Labels, Count] = field(default_factory=dict)
    skipped: set[str] = field(default_factory=set)  # messages about what could not be read

    def add(self, labels: Mapping[str, str], scrapes: Iterable[tuple[float, float | str]]) -> float:
        """Add a series' scrapes in order, if it is the release's; returns the time of the last, else 0.

        A series that first appears after `since` began at zero. A series is skipped if it lacks a required
        label or has a bucket bound that is not one, and a scrape if no counter can have its value.
        """
        series, name, at = tuple(sorted(labels.items())), labels.get("__name__"), 0.0
        if name not in SERIES or self.version not in (labels.get(each) for each in VERSIONS):
            return at
        try:
            of = _counted(labels)
        except (KeyError, ValueError):
            self.skipped.add(f"{name}: a label is missing or not valid")
            return at
        for at, text in scrapes:
            if not 0 <= (value := _number(text)) <= HIGHEST:
                self.skipped.add(f"{name}: a value is not a valid count")
            elif series in self.counts:
                self.counts[series].add(at, value, self.since)
            else:
                self.counts[series] = Count(of, at, value, value if at > self.since else 0.0)
        self.seen = max(self.seen, at)
        return at

    def sample(self) -> Sample:
        """Sum up the series.

        Failed requests are the 5xx answers or the model's own failure count, whichever is greater; refused
        requests are the 429 answers or the app's own count of refusals, whichever is greater.
        """
        sums: dict[str, dict[Any, float]] = defaultdict(lambda: defaultdict(float))
        for count in self.counts.values():
            what, part = count.of
            sums[what][part] += count.gained
        latency, scores = (Histogram.of_cumulative(sums[name]) for name in (LATENCY, SCORE))
        failed, refused = (max(sums[what].values(), default=0.0) for what in ("failed", "refused"))
        return Sample(latency.total + failed, failed, latency, scores, refused, frozenset(self.skipped))


@dataclass
class Scrape:
    """Reads the /metrics page of one server process, which `url` must reach at every check.

    A page has no history. So `since` means since the first call with that value or, with `from_start`, since
    the server started.
    """

    url: str
    from_start: bool = False
    _pages: int = 0  # the pages read so far, which stand for the time
    _counted: Counted = field(default_factory=Counted)

    def sample(self, version: str, since: float) -> Sample:
        """Return a release's answers, zeros if there are none. Raises Unread if the page is unreadable."""
        import httpx

        try:
            answer = fetch(f"{self.url}/metrics", TIMEOUT, PAGE)
        except httpx.HTTPError as error:
            raise Unread(f"metrics cannot be read: {error}") from error
        if not answer.is_success:
            raise Unread(f"metrics cannot be read: {self.url}/metrics answers {answer.status_code}")
        found = series(answer.text)  # before the count begins, because it begins with a page that can be read
        self._pages += 1
        if (self._counted.version, self._counted.asked) != (version, since):
            self._counted = Counted(version, since, -inf if self.from_start else self._pages)
        for labels, value in found:
            self._counted.add(labels, [(self._pages, value)])
        return self._counted.sample()

    def unlike(self, version: str, pods: int) -> str | None:
        """Return None, because a single server cannot know of other pods."""
        return None


def series(page: str) -> list[tuple[dict[str, str], float]]:
    """Return labels and value of each series of a page in Prometheus' text format.

    Raises Unread if a line is malformed, as Prometheus would.
    """
    from prometheus_client.parser import text_string_to_metric_families

    if max(map(len, page.split("\n"))) > LINE:
        raise Unread(f"metrics cannot be read: a line is longer than {LINE} characters")
    try:
        rows = [row for family in text_string_to_metric_families(page) for row in family.samples]
    except Exception as error:
        why = one_line(f"{type(error).__name__}: {error}", 200)
        raise Unread(f"metrics cannot be read: {why}") from error
    return [({**row.labels, "__name__": row.name}, row.value) for row in rows]


def _counted(labels: Mapping[str, str]) -> tuple[str, float | str]:
    """Return what a series counts, and which part of it: a bucket's upper bound, or the name of the counter.

    Raises KeyError if a label is missing, and ValueError if a bound is not a number above the lowest one.
    """
    name = labels["__name__"]
    if (histogram := name.removesuffix("_bucket")) != name:
        if not (bound := _number(labels["le"])) > LEAST[histogram]:
            raise ValueError(f"{labels['le']!r} is not an upper bound")
        return histogram, bound
    if name == f"{FAILED}_total":
        return REASONS.get(labels["reason"], ""), name
    if labels["endpoint"] == "/predict":
        code = labels["http_response_code"]
        return "refused" if code == "429" else "failed" if code.startswith("5") else "", name
    return "", name


def _number(text: float | str) -> float:
    """Parse untrusted text as a number; returns NaN if the text is not a number."""
    try:
        return float(text)
    except ValueError:
        return nan
