"""What is read from a track's /metrics."""

import pytest
from shop import exposition

from loop.monitoring.sample import Sample, parse


def test_counts() -> None:
    """Answers and the model's failures count, a caller's mistakes and probes do not."""
    found = parse(exposition("a1", 20, 2, 2, caller=9), "a1")
    assert (found.requests, found.failed) == (22, 2)
    assert found.latency.counts == {0.01: 0, 0.1: 20, float("inf"): 0}
    assert found.latency.quantile(0.5) == pytest.approx(0.055)
    assert found.scores.counts[0.5] == 20


def test_failed_before_the_model() -> None:
    """A request that failed before it came to the model is in HTTP's counters only, and counts."""
    found = parse(exposition("a1", 20, 0, 7), "a1")
    assert (found.requests, found.failed) == (27, 7)


def test_another_version() -> None:
    """What another release answered is not this one's."""
    assert parse(exposition("b2", 20, 2, 2), "a1") == Sample()


def test_since() -> None:
    """The difference of two looks; after a restart, all that is there."""
    before, after = (parse(exposition("a1", n, 1, 0), "a1") for n in (10, 30))
    added = after.since(before)
    assert (added.requests, added.failed, added.latency.total, added.scores.total) == (20, 0, 20, 20)
    assert before.since(after) == before
