"""Each of the judge's rules rejects a bad canary, and more errors never improve the verdict."""

from dataclasses import replace
from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.core import params
from loop.monitoring.sample import Histogram, Sample
from loop.monitoring.verdict import verdict

pytestmark = pytest.mark.sample

RULES = params.Canary()
BOUNDS = (0.01, 0.05, 0.1, 0.5, float("inf"))


def sample(
    latency: tuple[float, ...], scores: tuple[float, ...] = (900, 60, 40), failed: float = 0
) -> Sample:
    """Return a sample with these answers by latency bucket and by score bucket."""
    return Sample(
        requests=sum(latency) + failed,
        failed=failed,
        latency=Histogram(dict(zip(BOUNDS, latency, strict=False))),
        scores=Histogram(dict(zip((0.1, 0.5, 1.0), scores, strict=True))),
    )


STABLE = sample((980, 15, 5))


@pytest.mark.parametrize(
    ("canary", "what", "why"),
    [
        (sample((196, 3, 1), (180, 12, 8)), "promote", "200 requests, 0 failed"),
        (sample((190, 3, 1), (180, 12, 8)), "wait", "194 of 200 requests"),
        (sample((196, 3, 1), (180, 12, 8), failed=3), "rollback", "3 of 203 requests failed (1.5% > 1.0%)"),
        (sample((180, 5, 5, 10), (180, 12, 8)), "rollback", "10 of 200 answers took over 110 ms"),
        (sample((196, 3, 1), (20, 12, 168)), "rollback", "scores differ from stable's: PSI"),
        (sample((195, 3, 1), (20, 12, 167), failed=1), "rollback", "scores differ from stable's: PSI"),
        (sample((9, 0, 0, 0), (9, 0, 0), failed=3), "rollback", "3 of 12 requests failed (25.0% > 1.0%)"),
        (sample((9, 0, 0, 0), (9, 0, 0), failed=2), "wait", "11 of 200 requests"),
        (sample((0, 0, 0, 7), (7, 0, 0)), "rollback", "7 of 7 answers took over 110 ms"),
        (sample((0, 0, 0, 6), (0, 0, 6)), "wait", "6 of 200 requests"),
        # Two slow answers of 200 set the p99, but prove nothing.
        (sample((196, 1, 1, 2), (180, 12, 8)), "promote", "0 failed"),
    ],
)
def test_verdict(canary: Sample, what: str, why: str) -> None:
    """Each rule rejects by itself, and its reason has the numbers; with too few requests, the judge waits."""
    found = verdict(STABLE, canary, RULES)
    assert found.what == what
    assert why in "; ".join(found.reasons)


def test_a_stable_that_failed_once_is_compared_with() -> None:
    """If one of stable's requests failed, its 199 answers are still enough to compare scores."""
    stable = sample((196, 2, 1), (179, 12, 8), failed=1)
    inverted = sample((196, 3, 1), (8, 12, 180))
    assert "scores differ" in verdict(stable, inverted, RULES).reasons[0]


@pytest.mark.parametrize(
    ("stable", "canary", "what"),
    [
        (0, 3, "rollback"),  # of 203: 1.5 %
        (0, 2, "wait"),
        (111, 22, "wait"),  # stable refuses one in ten, and so does the canary
        (111, 60, "rollback"),
    ],
)
def test_refusals_beyond_stables_share_are_failures(stable: float, canary: float, what: str) -> None:
    """A 429 counts as a failure, except for the share of requests that stable refuses, too."""
    before, tried = (
        replace(STABLE, refused=stable),
        replace(sample((190, 3, 1), (180, 12, 8)), refused=canary),
    )
    found = verdict(before, tried, RULES)
    assert found.what == what
    assert ("refused with 429, more than by stable" in found.reasons[0]) == (what == "rollback")


def test_fast_is_fast_enough() -> None:
    """Ten times stable's p99 is no reason to roll back while it is under `min_p99_ms`."""
    fast = Sample(1000, 0, Histogram({0.001: 1000, 0.01: 0, 0.05: 0}), STABLE.scores)
    canary = Sample(1000, 0, Histogram({0.001: 0, 0.01: 1000, 0.05: 0}), STABLE.scores)
    assert verdict(fast, canary, RULES).what == "promote"


def test_idle_stable() -> None:
    """If stable has no answers, only failures count, because there is nothing to compare with."""
    assert verdict(Sample(), sample((0, 0, 0, 300)), RULES).what == "promote"
    assert verdict(Sample(), sample((0, 0, 0, 300), failed=30), RULES).what == "rollback"


counts = st.integers(0, 400).map(float)
samples = st.builds(
    sample, st.tuples(counts, counts, counts, counts, counts), st.tuples(counts, counts, counts), counts
)


@given(stable=samples, canary=samples, more=st.integers(0, 500))
def test_more_errors_never_help(stable: Sample, canary: Sample, more: int) -> None:
    """More errors never turn a rollback into another verdict, or a promotion into waiting."""
    worse = Sample(canary.requests + more, canary.failed + more, canary.latency, canary.scores)
    before, after = verdict(stable, canary, RULES).what, verdict(stable, worse, RULES).what
    assert (before, after) not in {("rollback", "promote"), ("rollback", "wait"), ("promote", "wait")}


@given(stable=samples, canary=samples, slower=st.integers(1, 4))
def test_slower_never_helps(stable: Sample, canary: Sample, slower: int) -> None:
    """If every answer takes longer, a canary that was rolled back is not promoted."""
    shifted = dict.fromkeys(BOUNDS, 0.0)
    for place, bound in enumerate(BOUNDS):
        shifted[BOUNDS[min(place + slower, len(BOUNDS) - 1)]] += canary.latency.counts[bound]
    worse = Sample(canary.requests, canary.failed, Histogram(shifted), canary.scores)
    before, after = verdict(stable, canary, RULES).what, verdict(stable, worse, RULES).what
    assert (before, after) != ("rollback", "promote")


outcomes = st.lists(st.sampled_from(["fine", "slow", "failed"]), min_size=60, max_size=60)


@given(outcomes=outcomes, shares=st.tuples(st.floats(0, 0.2), st.floats(0, 1)))
def test_early_is_no_false_alarm(outcomes: list[str], shares: tuple[float, float]) -> None:
    """If a canary is checked after each request, it is rolled back early only if it would be at the end."""
    rules = params.Canary(min_requests=60, max_failed=shares[0], max_score_psi=100)

    def said(count: int) -> str:
        fine, slow, failed = (outcomes[:count].count(kind) for kind in ("fine", "slow", "failed"))
        return verdict(STABLE, sample((fine, 0, 0, slow), (fine, slow, 0), failed=failed), rules).what

    early = {said(count) for count in range(1, 60)}
    assert early <= {"wait", "rollback"}
    assert "rollback" not in early or said(60) == "rollback"


@pytest.mark.parametrize(("bad", "most"), [("failed", 30), ("slow", 7), ("scores", 200)])
def test_a_bad_canary_is_known_soon(bad: str, most: int) -> None:
    """With 30 % errors, only slow answers, or 30 % other scores, `most` requests suffice in 99 % of cases."""
    counts = [int((np.random.default_rng(seed).random(most) < 0.3).sum()) for seed in range(200)]
    cases = {
        "failed": lambda n: sample((most - n, 0, 0, 0), (most - n, 0, 0), failed=n),
        "slow": lambda _: sample((0, 0, 0, most), (most, 0, 0)),
        "scores": lambda n: sample((most, 0, 0, 0), (most - n, 0, n)),
    }
    found = [verdict(STABLE, cases[bad](n), RULES).what for n in counts]
    assert found.count("rollback") >= 198


@given(side=st.lists(st.integers(0, 1000), min_size=2, max_size=20))
def test_same_scores(side: list[int]) -> None:
    """The shift between a score distribution and itself is zero."""
    histogram = Histogram({float(bound): float(count) for bound, count in enumerate(side)})
    assert histogram.psi(histogram) == 0


def test_scores_are_compared_by_the_bounds_that_both_releases_have():
    """Only bounds of both histograms are compared, so equal predictions show no shift, but others do."""
    fine = Histogram({-1.0: 50.0, -0.5: 100.0, 0.0: 200.0, 0.5: 100.0, 1.0: 50.0, inf: 0.0})
    coarse = Histogram({-1.0: 50.0, 0.0: 300.0, 1.0: 150.0, inf: 0.0})
    shifted = Histogram({-1.0: 0.0, 0.0: 50.0, 1.0: 300.0, 2.0: 150.0, inf: 0.0})
    assert fine.psi(coarse) == coarse.psi(fine) == 0
    assert fine.psi(shifted) > 1
    assert Histogram({0.1: 9.0}).psi(Histogram({0.2: 9.0})) == 0
