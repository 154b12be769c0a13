"""The canary judge's rules, as a pure function of the answers of both tracks."""

from dataclasses import dataclass, replace
from typing import Literal

from loop.core import params
from loop.monitoring.sample import Sample

CHANCE = 0.01  # accepted probability of calling a canary slow although its latency is within the limit


@dataclass(frozen=True)
class Verdict:
    """The judge's decision about a canary, and its reasons."""

    what: Literal["promote", "rollback", "remove", "wait"]  # "rollback" blocks the release, "remove" does not
    reasons: tuple[str, ...]


def verdict(stable: Sample, canary: Sample, rules: params.Canary) -> Verdict:
    """Judge a canary that has traffic; it is promoted only with at least `min_requests` requests.

    Failures and slow answers are judged from the first request on, as if all further requests up to
    `min_requests` succeeded quickly. So a canary that is rejected early would be rejected later, too, and
    early checks cause no additional false alarms (curtailed sampling). Requests that the canary refuses more
    often than stable count as failures. If stable has too few answers, only the canary's failures are judged.
    """
    refused = _beyond(stable, canary)
    canary = replace(canary, requests=canary.requests + refused, failed=canary.failed + refused)
    against = [_fails(canary, refused, rules)]
    if _enough(stable, rules):
        against.append(_slow(stable, canary, rules))
        if _enough(canary, rules):
            against.append(_differs(stable, canary, rules))
    if reasons := tuple(reason for reason in against if reason):
        return Verdict("rollback", reasons)
    if canary.requests < rules.min_requests:
        return Verdict("wait", (f"{canary.requests:.0f} of {rules.min_requests} requests",))
    return Verdict("promote", (f"{canary.requests:.0f} requests, {canary.failed:.0f} failed",))


def _beyond(stable: Sample, canary: Sample) -> float:
    """Return how many requests the canary refused beyond the share that stable refuses."""
    share = stable.refused / max(stable.requests + stable.refused, 1)
    return max(0.0, canary.refused - share * (canary.requests + canary.refused))


def _enough(sample: Sample, rules: params.Canary) -> bool:
    """Return whether a sample is large enough to compare: enough requests, at least half of them answered."""
    return sample.requests >= rules.min_requests and 2 * sample.latency.total >= rules.min_requests


def _fails(canary: Sample, refused: float, rules: params.Canary) -> str | None:
    if canary.failed <= rules.max_failed * max(canary.requests, rules.min_requests):
        return None
    share = canary.failed / canary.requests
    with_429 = f", {refused:.0f} of them refused with 429, more than by stable" if refused else ""
    failed = f"{canary.failed:.0f} of {canary.requests:.0f} requests failed"
    return f"{failed} ({share:.1%} > {rules.max_failed:.1%}){with_429}"


def _slow(stable: Sample, canary: Sample, rules: params.Canary) -> str | None:
    """Return a reason if more answers exceed the canary's p99 limit than 1 % plus chance would explain."""
    from scipy.special import bdtrc  # scipy.special, because importing scipy.stats takes seconds

    most = max(rules.max_p99_ratio * stable.latency.quantile(0.99), rules.min_p99_ms / 1000)
    slow, answers = canary.latency.above(most), canary.latency.total
    # the probability of as many slow answers or more
    if bdtrc(round(slow) - 1, round(max(answers, rules.min_requests)), 0.01) >= CHANCE:
        return None
    p99 = canary.latency.quantile(0.99)
    return f"p99 {1000 * p99:.0f} ms: {slow:.0f} of {answers:.0f} answers took over {1000 * most:.0f} ms"


def _differs(stable: Sample, canary: Sample, rules: params.Canary) -> str | None:
    found = stable.scores.psi(canary.scores)
    if found <= rules.max_score_psi:
        return None
    return f"scores differ from stable's: PSI {found:.2f} > {rules.max_score_psi:g}"
