"""Reads from Prometheus how one track's pods have answered."""

import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import ceil
from typing import Annotated

import httpx
from pydantic import AliasPath, BaseModel, FailFast, Field, ValidationError

from loop.core.text import one_line
from loop.monitoring.fetch import fetch
from loop.monitoring.sample import LATENCY, SERIES, TIMEOUT, Counted, Sample, Unread

LOOKBACK = 300.0  # seconds before `since` in which a counter's start is searched, as Prometheus does
OVERLAP = 120.0  # seconds by which two queries overlap, so that no late scrape is missed
RECENT = 90.0  # seconds in which every pod is scraped at least once; scrape intervals are at most a minute
LONGEST = 6 * 3600.0  # seconds that a judge reads back if it starts in the middle of a step
ANSWER = 16 * 1024 * 1024  # maximum size of an answer in bytes
STRETCH = 1800.0  # seconds of scrapes per query; for ten pods the answer is about 4 MB


class Series(BaseModel):
    """One time series in Prometheus' answer, with its value at one time or its values over a range."""

    metric: dict[str, str]
    value: tuple[float, str] = (0.0, "NaN")
    values: Annotated[list[tuple[float, str]], FailFast()] = []


class Found(BaseModel):
    """Prometheus' answer to a query: the time series that it found."""

    # validation stops at the first error, because millions of errors would fill memory
    series: Annotated[list[Series], FailFast()] = Field(validation_alias=AliasPath("data", "result"))
    warnings: list[str] = []


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
    _counted: Counted = field(default_factory=Counted)

    def sample(self, version: str, since: float) -> Sample:
        """Return counts, latencies and scores of a release's responses since a Unix time.

        Raises Unread if no recent scrape has them.
        """
        now = time.time()
        kept = self._counted
        if (kept.version, kept.asked) != (version, since):
            kept = self._counted = Counted(version, since, max(since, now - LONGEST))
        first, newest = (kept.seen - OVERLAP if kept.seen else kept.since - LOOKBACK), 0.0
        for end, seconds in _stretches(first, now):
            for series in self._query(f'{{__name__=~"{"|".join(SERIES)}",{self._pods}}}[{seconds}s]', end):
                newest = max(newest, kept.add(series.metric, series.values))
        if newest < now - LOOKBACK:
            raise Unread(f"Prometheus has no recent data of {self.track} {version} in {self.namespace}")
        return kept.sample()

    def unlike(self, version: str, pods: int = 1) -> str | None:
        """Return how the scraped pods differ from `pods` ready pods of `version`; None if they do not."""
        up = {_pod(series.metric): series.value[1] == "1" for series in self._now("up")}
        served: dict[str, set[str]] = defaultdict(set)
        for series in self._now(f"{LATENCY}_count"):
            served[_pod(series.metric)].add(series.metric.get("version", "no version"))
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
            answer = fetch(f"{self.url}/api/v1/query", TIMEOUT, ANSWER, form)
            if answer.is_error:
                raise Unread(f"Prometheus: {one_line(answer.text, 300)}")
            found = Found.model_validate_json(answer.content)
        except (httpx.HTTPError, ValidationError) as error:
            why = one_line(f"{type(error).__name__} {error}", 300)
            raise Unread(f"Prometheus at {self.url} cannot be read: {why}") from error
        if found.warnings:  # counters that are missing now would later count as new ones, from zero
            raise Unread(f"Prometheus: the answer may lack series: {one_line(found.warnings[0], 200)}")
        return found.series


def _stretches(first: float, now: float) -> Iterator[tuple[float | None, int]]:
    """Split the time from `first` to now into queries: (end, length in seconds); end None means now."""
    while now - first > STRETCH:
        first += STRETCH
        yield first, ceil(STRETCH)
    yield None, max(1, ceil(now - first + OVERLAP))  # because Prometheus' clock may differ from ours


def _pod(labels: dict[str, str]) -> str:
    return labels.get("pod") or labels.get("instance", "a pod without a name")
