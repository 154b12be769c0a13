"""What one track's pods have answered, as Prometheus scraped it."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from math import ceil

import httpx
from pydantic import BaseModel, ValidationError

from loop.core.text import one_line
from loop.monitoring.sample import FAILED, HTTP, LATENCY, SCORE, Sample, Unread, counted, of_rows

SERIES = f"{LATENCY}_bucket|{SCORE}_bucket|{FAILED}_total|{HTTP}_total"
LOOKBACK = 300.0  # seconds before `since` in which a counter's value then is looked for, as Prometheus does
OVERLAP = 120.0  # seconds that two looks share, so that nothing that is scraped slowly falls between them
RECENT = 90.0  # seconds within which every pod is scraped: intervals are of a minute at most
LONGEST = 6 * 3600.0  # how far back a judge that begins in the middle of a step reads

Labels = tuple[tuple[str, str], ...]


@dataclass
class Count:
    """One series' counter: its last scrape, and what it has gained since a time."""

    at: float
    value: float
    gained: float

    def add(self, at: float, value: float, since: float) -> None:
        """Take in a later scrape; a smaller value is that of a container that has begun anew."""
        if at <= self.at:
            return
        new = value - self.value if value >= self.value else value
        self.at, self.value = at, value
        self.gained = self.gained + new if at > since else 0.0


@dataclass
class Counted:
    """What one release's series have gained since a time."""

    asked: float  # the time that was asked for
    since: float  # the same, or as far back as is read
    counts: dict[Labels, Count] = field(default_factory=dict)
    seen: float = 0.0  # the newest scrape

    def add(self, labels: Labels, scrapes: list[tuple[float, float]]) -> None:
        """Take in a series' scrapes in their order; one that begins after `since` began at zero."""
        for at, value in scrapes:
            if labels in self.counts:
                self.counts[labels].add(at, value, self.since)
            else:
                self.counts[labels] = Count(at, value, value if at > self.since else 0.0)
            self.seen = max(self.seen, at)


class Series(BaseModel):
    """One of an answer's: at one time, or over some."""

    metric: dict[str, str]
    value: tuple[float, str] = (0.0, "NaN")
    values: list[tuple[float, str]] = []

    @property
    def scrapes(self) -> Iterator[tuple[float, float]]:
        """The values that a counter can have, by their times."""
        for at, value in self.values:
            with suppress(ValueError):
                yield at, counted(value)


class Found(BaseModel):
    """What a query found."""

    result: list[Series]


class Said(BaseModel):
    """Prometheus' answer to a query."""

    status: str
    error: str = "it says no reason"
    data: Found | None = None


@dataclass
class Prometheus:
    """Reads the pods of one track in one namespace.

    It reads the scrapes themselves and adds up each series' gains: exact up to the last scrape, where
    `increase()` extrapolates and misses what a new pod's counter had at its first scrape. Restarted
    containers and pods that come and go count with all they answered. What it keeps only saves reading
    all scrapes again at every look: a judge that was restarted reads them from `since` on.
    """

    url: str
    namespace: str
    track: str
    _counted: dict[str, Counted] = field(default_factory=dict)  # by version

    def sample(self, version: str, since: float) -> Sample:
        """What `version` has answered since then; Unread where no scrape of these minutes knows it."""
        now = time.time()
        kept = self._counted.get(version)
        if kept is None or kept.asked != since:
            kept = self._counted[version] = Counted(since, max(since, now - LONGEST))
        first = kept.seen - OVERLAP if kept.seen else kept.since - LOOKBACK
        found = self._query(f'{{__name__=~"{SERIES}",{self._pods}}}[{max(1, ceil(now - first))}s]')
        mine = [series for series in found if version in _versions(series.metric)]
        if not any(at >= now - LOOKBACK for series in mine for at, _ in series.values[-1:]):
            raise Unread(f"Prometheus has nothing of {self.track} {version} in {self.namespace}")
        for series in mine:
            kept.add(tuple(sorted(series.metric.items())), list(series.scrapes))
        counts = [(dict(labels), count.gained) for labels, count in kept.counts.items()]
        sample = of_rows(((labels["__name__"], labels, gained) for labels, gained in counts), version)
        odd = [s.metric["__name__"] for s in mine if len(list(s.scrapes)) < len(s.values)]
        return replace(sample, skipped=(*sample.skipped, *(f"{name}: a value is no count" for name in odd)))

    def unlike(self, version: str) -> str | None:
        """Which pods that are scraped are down, or serve another release; or that none is scraped."""
        up = {_pod(series.metric): series.value[1] == "1" for series in self._now("up")}
        served: dict[str, set[str]] = defaultdict(set)
        for series in self._now(f"{LATENCY}_count"):
            served[_pod(series.metric)].add(series.metric.get("version", "no version"))
        if not up:
            return "has no pod that Prometheus scrapes"
        if down := sorted(pod for pod in up if not up[pod] or pod not in served):
            return f"has {', '.join(down)}, which can't be scraped"
        if others := sorted(pod for pod in up if served[pod] != {version}):
            told = (f"{pod} ({one_line(', '.join(sorted(served[pod])), 40)})" for pod in others)
            return f"still has {', '.join(told)}"
        return None

    @property
    def _pods(self) -> str:
        return f'namespace="{self.namespace}",track="{self.track}"'

    def _now(self, name: str) -> "list[Series]":
        """The pods' series of that name; without those of pods that went while Prometheus was away."""
        series = f"{name}{{{self._pods}}}"
        return self._query(f"{series} and timestamp({series}) > time() - {RECENT:g}")

    def _query(self, query: str) -> "list[Series]":
        """The series that answer a query now."""
        try:
            answer = httpx.post(f"{self.url}/api/v1/query", data={"query": query}, timeout=10)
            said = Said.model_validate_json(answer.content)
        except (httpx.HTTPError, ValidationError) as error:
            why = one_line(f"{type(error).__name__} {error}", 300)
            raise Unread(f"Prometheus at {self.url} can't be read: {why}") from error
        if said.status != "success" or said.data is None:
            raise Unread(f"Prometheus: {one_line(said.error, 300)}")
        return said.data.result


def _versions(labels: dict[str, str]) -> tuple[str | None, str | None]:
    return labels.get("version"), labels.get("service_version")


def _pod(labels: dict[str, str]) -> str:
    return labels.get("pod") or labels.get("instance", "a pod without a name")
