"""What one track's pods have answered, as Prometheus scraped it."""

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
from loop.monitoring.fetch import post
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
LOOKBACK = 300.0  # seconds before `since` in which a counter's value then is looked for, as Prometheus does
OVERLAP = 120.0  # seconds that two looks share, so that nothing that is scraped slowly falls between them
RECENT = 90.0  # seconds within which every pod is scraped: intervals are of a minute at most
LONGEST = 6 * 3600.0  # how far back a judge that begins in the middle of a step reads
ANSWER = 16 * 1024 * 1024  # bytes of an answer
STRETCH = 1800.0  # seconds of scrapes that one query asks for: of ten pods some 4 MB

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
    values: Annotated[list[tuple[float, str]], FailFast()] = []

    @property
    def scrapes(self) -> Iterator[tuple[float, float]]:
        """The values that a counter can have, by their times."""
        for at, value in self.values:
            with suppress(ValueError):
                yield at, counted(value)


class Found(BaseModel):
    """What a query found."""

    result: Annotated[list[Series], FailFast()]  # or each of a million wrong ones would be an error to keep


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
        newest, odd = 0.0, []
        for end, seconds in _stretches(first, now):
            found = self._query(f'{{__name__=~"{SERIES}",{self._pods}}}[{seconds}s]', end)
            for series in (each for each in found if version in versions(each.metric)):
                scrapes = list(series.scrapes)
                kept.add(tuple(sorted(series.metric.items())), scrapes)
                newest = max([newest, *(at for at, _ in series.values[-1:])])
                if len(scrapes) < len(series.values):
                    odd.append(f"{series.metric['__name__']}: a value is no count")
        if newest < now - LOOKBACK:
            raise Unread(f"Prometheus has nothing of {self.track} {version} in {self.namespace}")
        counts = [(dict(labels), count.gained) for labels, count in kept.counts.items()]
        sample = of_rows(((labels["__name__"], labels, gained) for labels, gained in counts), version)
        return replace(sample, skipped=(*sample.skipped, *odd))

    def unlike(self, version: str, pods: int = 1) -> str | None:
        """Which pods that are scraped are down, or serve another release; or that fewer than `pods` are."""
        up = {_pod(series.metric): series.value[1] == "1" for series in self._now("up")}
        served: dict[str, set[str]] = defaultdict(set)
        for series in self._now(f"{LATENCY}_count"):
            served[_pod(series.metric)].add(_version(series.metric))
        if not up:
            return "has no pod that Prometheus scrapes"
        if down := sorted(pod for pod in up if not up[pod] or pod not in served):
            return f"has {', '.join(down)}, which can't be scraped"
        if others := sorted(pod for pod in up if served[pod] != {version}):
            told = (f"{pod} ({one_line(', '.join(sorted(served[pod])), 40)})" for pod in others)
            return f"still has {', '.join(told)}"
        if len(up) < pods:
            return f"has {len(up)} of the {pods} pods that its traffic takes"
        return None

    @property
    def _pods(self) -> str:
        return f'namespace="{self.namespace}",track="{self.track}"'

    def _now(self, name: str) -> "list[Series]":
        """The pods' series of that name; without those of pods that went while Prometheus was away."""
        series = f"{name}{{{self._pods}}}"
        return self._query(f"{series} and timestamp({series}) > time() - {RECENT:g}")

    def _query(self, query: str, end: float | None = None) -> "list[Series]":
        """The series that answer a query as of a Unix time; without one, of Prometheus' own now."""
        form = {"query": query, **({"time": f"{end:.3f}"} if end else {})}
        try:
            answer = Said.model_validate_json(post(f"{self.url}/api/v1/query", form, TIMEOUT, ANSWER).body)
        except (httpx.HTTPError, ValidationError) as error:
            why = one_line(f"{type(error).__name__} {error}", 300)
            raise Unread(f"Prometheus at {self.url} can't be read: {why}") from error
        if answer.status != "success" or answer.data is None:
            raise Unread(f"Prometheus: {one_line(answer.error, 300)}")
        return answer.data.result


def _stretches(first: float, now: float) -> list[tuple[float | None, int]]:
    """Queries that read all scrapes from `first` on: when each ends (None: now), its length in seconds."""
    ends = []
    while now - first > STRETCH:
        first += STRETCH
        ends.append(first)
    last = now - first + (OVERLAP if ends else 0)  # as Prometheus' now may not be ours
    return [*((end, ceil(STRETCH)) for end in ends), (None, max(1, ceil(last)))]


def _version(labels: dict[str, str]) -> str:
    try:
        return said(labels, "version")
    except KeyError:
        return "no version"


def _pod(labels: dict[str, str]) -> str:
    return labels.get("pod") or labels.get("instance", "a pod without a name")
