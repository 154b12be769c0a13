"""What one track's pods have answered, as Prometheus scraped it."""

import time
from dataclasses import dataclass, field
from math import ceil
from typing import Any

import httpx

from loop.monitoring.sample import FAILED, HTTP, LATENCY, SCORE, Sample, Unread, of_rows

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
        counted = self._counted.get(version)
        if counted is None or counted.asked != since:
            counted = self._counted[version] = Counted(since, max(since, now - LONGEST))
        first = counted.seen - OVERLAP if counted.seen else counted.since - LOOKBACK
        found = self._query(f'{{__name__=~"{SERIES}",{self._pods}}}[{max(1, ceil(now - first))}s]')
        mine = [series for series in found if version in _versions(series["metric"])]
        if not any(series["values"][-1][0] >= now - LOOKBACK for series in mine):
            raise Unread(f"Prometheus has nothing of {self.track} {version} in {self.namespace}")
        for series in mine:
            scrapes = [(float(at), float(value)) for at, value in series["values"]]
            counted.add(tuple(sorted(series["metric"].items())), scrapes)
        counts = [(dict(labels), count.gained) for labels, count in counted.counts.items()]
        return of_rows(((labels["__name__"], labels, gained) for labels, gained in counts), version)

    def unlike(self, version: str) -> str | None:
        """Which pods that are scraped are down, or serve another release; or that none is scraped."""
        up = {_pod(series["metric"]): float(series["value"][1]) for series in self._now("up")}
        served = {_pod(s["metric"]): s["metric"]["version"] for s in self._now(f"{LATENCY}_count")}
        if not up:
            return "has no pod that Prometheus scrapes"
        if down := sorted(pod for pod in up if not up[pod] or pod not in served):
            return f"has {', '.join(down)}, which can't be scraped"
        if others := sorted(pod for pod in up if served[pod] != version):
            return f"still has {', '.join(f'{pod} ({served[pod]})' for pod in others)}"
        return None

    @property
    def _pods(self) -> str:
        return f'namespace="{self.namespace}",track="{self.track}"'

    def _now(self, name: str) -> list[dict[str, Any]]:
        """The pods' series of that name; without those of pods that went while Prometheus was away."""
        series = f"{name}{{{self._pods}}}"
        return self._query(f"{series} and timestamp({series}) > time() - {RECENT:g}")

    def _query(self, query: str) -> list[dict[str, Any]]:
        """The series that answer a query now."""
        try:
            answer = httpx.post(f"{self.url}/api/v1/query", data={"query": query}, timeout=10)
            said = answer.json()
            if said["status"] != "success":
                raise Unread(f"Prometheus: {said['error']}")
            return list(said["data"]["result"])
        except (httpx.HTTPError, ValueError, KeyError) as error:
            raise Unread(f"Prometheus at {self.url} can't be read: {type(error).__name__} {error}") from error


def _versions(labels: dict[str, str]) -> tuple[str | None, str | None]:
    return labels.get("version"), labels.get("service_version")


def _pod(labels: dict[str, str]) -> str:
    return labels.get("pod") or labels["instance"]
