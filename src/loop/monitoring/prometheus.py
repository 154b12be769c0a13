"""Reads from Prometheus how one track's pods have answered."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Annotated

import httpx
from pydantic import BaseModel, FailFast, ValidationError

from loop.core.text import one_line
from loop.monitoring.fetch import fetch
from loop.monitoring.sample import (
    FAILED,
    HTTP,
    LATENCY,
    SCORE,
    TIMEOUT,
    Sample,
    Unread,
    counted,
    of_rows,
    said,
    versions,
)

SERIES = f"{LATENCY}_bucket|{SCORE}_bucket|{FAILED}_total|{HTTP}_total"
LOOKBACK = 300.0  # seconds before `since` in which a counter's start is searched, as Prometheus does
OVERLAP = 120.0  # seconds by which two queries overlap, so that no late scrape is missed
RECENT = 90.0  # seconds in which every pod is scraped at least once; scrape intervals are at most a minute
LONGEST = 6 * 3600.0  # seconds that a judge reads back if it starts in the middle of a step
ANSWER = 16 * 1024 * 1024  # maximum size of an answer in bytes
STRETCH = 1800.0  # seconds of scrapes per query; for ten pods the answer is about 4 MB

Labels = tuple[tuple[str, str], ...]


@dataclass
class Count:
    """One series' counter: its last scrape, and its increase since a given time."""

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

    asked: float  # the requested start of counting (Unix time)
    since: float  # the start of counting; later than requested if that is more than LONGEST ago
    counts: dict[Labels, Count] = field(default_factory=dict)
    seen: float = 0.0  # Unix time of the newest scrape

    def add(self, labels: Labels, scrapes: list[tuple[float, float]]) -> None:
        """Add a series' scrapes in order; a series that first appears after `since` began at zero."""
        for at, value in scrapes:
            if labels in self.counts:
                self.counts[labels].add(at, value, self.since)
            else:
                self.counts[labels] = Count(at, value, value if at > self.since else 0.0)
            self.seen = max(self.seen, at)


class Series(BaseModel):
    """One time series in Prometheus' answer, with its value at one time or its values over a range."""

    metric: dict[str, str]
    value: tuple[float, str] = (0.0, "NaN")
    values: Annotated[list[tuple[float, str]], FailFast()] = []

    @property
    def scrapes(self) -> Iterator[tuple[float, float]]:
        """Yield (time, value) of each scrape whose value a counter can have."""
        for at, value in self.values:
            with suppress(ValueError):
                yield at, counted(value)


class Found(BaseModel):
    """The time series that a Prometheus query found."""

    # validation stops at the first error, because millions of errors would fill memory
    result: Annotated[list[Series], FailFast()]


class Said(BaseModel):
    """Prometheus' answer to a query."""

    status: str
    error: str = "no reason given"
    data: Found | None = None


@dataclass
class Prometheus:
    """Reads the metrics of one track's pods in one namespace.

    It reads the raw scrapes and sums each series' increases. That is exact up to the last scrape, whereas
    Prometheus' `increase()` extrapolates and misses the value in a new pod's first scrape. Restarted
    containers and pods that come and go are counted in full. The counts so far are a cache; a restarted judge
    reads all scrapes from `since` again.
    """

    url: str
    namespace: str
    track: str
    _counted: dict[str, Counted] = field(default_factory=dict)  # the increases by release key

    def sample(self, version: str, since: float) -> Sample:
        """Return counts, latencies and scores of a release's responses since a Unix time.

        Raises Unread if no recent scrape has them.
        """
        now = time.time()
        kept = self._counted.get(version)
        if kept is None or kept.asked != since:
            kept = self._counted[version] = Counted(since, max(since, now - LONGEST))
        first = kept.seen - OVERLAP if kept.seen else kept.since - LOOKBACK
        newest, odd = 0.0, []
        for end, seconds in _stretches(first, now):
            found = self._query(f'{{__name__=~"{SERIES}",{self._pods}}}[{seconds}s]', end)
            for series in (each for each in found if version in versions(each.metric)):
                scrapes = list(series.scrapes)
                kept.add(tuple(sorted(series.metric.items())), scrapes)
                newest = max([newest, *(at for at, _ in series.values[-1:])])
                if len(scrapes) < len(series.values):
                    odd.append(f"{series.metric['__name__']}: a value is not a valid count")
        if newest < now - LOOKBACK:
            raise Unread(f"Prometheus has no recent data of {self.track} {version} in {self.namespace}")
        counts = [(dict(labels), count.gained) for labels, count in kept.counts.items()]
        sample = of_rows(((labels["__name__"], labels, gained) for labels, gained in counts), version)
        return replace(sample, skipped=(*sample.skipped, *odd))

    def unlike(self, version: str, pods: int = 1) -> str | None:
        """Return how the scraped pods differ from `pods` ready pods of `version`; None if they do not."""
        up = {_pod(series.metric): series.value[1] == "1" for series in self._now("up")}
        served: dict[str, set[str]] = defaultdict(set)
        for series in self._now(f"{LATENCY}_count"):
            served[_pod(series.metric)].add(_version(series.metric))
        if not up:
            return "has no pod that Prometheus scrapes"
        if down := sorted(pod for pod in up if not up[pod] or pod not in served):
            return f"has {', '.join(down)}, which cannot be scraped"
        if others := sorted(pod for pod in up if served[pod] != {version}):
            told = (f"{pod} ({one_line(', '.join(sorted(served[pod])), 40)})" for pod in others)
            return f"still has {', '.join(told)}"
        if len(up) < pods:
            return f"has {len(up)} of the {pods} pods that its traffic needs"
        return None

    @property
    def _pods(self) -> str:
        return f'namespace="{self.namespace}",track="{self.track}"'

    def _now(self, name: str) -> list[Series]:
        """Return the series of a metric that were scraped recently, without pods that have gone."""
        series = f"{name}{{{self._pods}}}"
        return self._query(f"{series} and timestamp({series}) > time() - {RECENT:g}")

    def _query(self, query: str, end: float | None = None) -> list[Series]:
        """Run an instant query at a Unix time, by default now. Raises Unread if there is no result."""
        form = {"query": query, **({"time": f"{end:.3f}"} if end else {})}
        try:
            answer = Said.model_validate_json(fetch(f"{self.url}/api/v1/query", TIMEOUT, ANSWER, form).body)
        except (httpx.HTTPError, ValidationError) as error:
            why = one_line(f"{type(error).__name__} {error}", 300)
            raise Unread(f"Prometheus at {self.url} cannot be read: {why}") from error
        if answer.status != "success" or answer.data is None:
            raise Unread(f"Prometheus: {one_line(answer.error, 300)}")
        return answer.data.result


def _stretches(first: float, now: float) -> list[tuple[float | None, int]]:
    """Split the time from `first` to now into queries: (end, length in seconds); end None means now."""
    ends = []
    while now - first > STRETCH:
        first += STRETCH
        ends.append(first)
    last = now - first + (OVERLAP if ends else 0)  # overlap, because Prometheus' clock may differ from ours
    return [*((end, ceil(STRETCH)) for end in ends), (None, max(1, ceil(last)))]


def _version(labels: dict[str, str]) -> str:
    try:
        return said(labels, "version")
    except KeyError:
        return "no version"


def _pod(labels: dict[str, str]) -> str:
    return labels.get("pod") or labels.get("instance", "a pod without a name")
