"""The judge's rules, as a pure function of what both tracks answered."""

from dataclasses import dataclass, replace
from typing import Literal

from loop.core import params
from loop.monitoring.sample import Sample

CHANCE = 0.01  # a canary no slower than it may be is called slow this seldom


@dataclass(frozen=True)
class Verdict:
    """What is to be done with a canary, and why."""

    what: Literal["promote", "rollback", "remove", "wait"]  # remove: rolled back, but not barred
    reasons: tuple[str, ...]


def verdict(stable: Sample, canary: Sample, rules: params.Canary) -> Verdict:
    """Judge a canary that has traffic; nothing good is said of fewer than `min_requests`.

    Failed and slow answers are judged from the first one on, as if all that is missing to `min_requests`
    were fine: what that rejects would be rejected then, so looking early raises no false alarm (curtailed
    sampling). Requests that the canary refuses more often than stable are failures. Where stable has answered
    too little to compare with, only the canary's failures count.
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
    """How many requests the canary has refused beyond the share that stable refuses."""
    share = stable.refused / max(stable.requests + stable.refused, 1)
    return max(0.0, canary.refused - share * (canary.requests + canary.refused))


def _enough(sample: Sample, rules: params.Canary) -> bool:
    """Whether answers can be compared: of the requests that a verdict takes, half at least were answered."""
    return sample.requests >= rules.min_requests and 2 * sample.latency.total >= rules.min_requests


def _fails(canary: Sample, refused: float, rules: params.Canary) -> str | None:
    if canary.failed <= rules.max_failed * max(canary.requests, rules.min_requests):
        return None
    share = canary.failed / canary.requests
    with_429 = f", {refused:.0f} of them by a 429 that stable would not give" if refused else ""
    return (
        f"{canary.failed:.0f} of {canary.requests:.0f} requests failed "
        f"({share:.1%} > {rules.max_failed:.1%}){with_429}"
    )


def _slow(stable: Sample, canary: Sample, rules: params.Canary) -> str | None:
    """Slow when more answers than 1 % and chance explain take longer than the canary's p99 may be."""
    from scipy.special import bdtrc  # scipy.stats would take seconds to import

    most = max(rules.max_p99_ratio * stable.latency.quantile(0.99), rules.min_p99_ms / 1000)
    slow, answers = canary.latency.above(most), canary.latency.total
    if bdtrc(round(slow) - 1, round(max(answers, rules.min_requests)), 0.01) >= CHANCE:  # P(as many or more)
        return None
    p99 = canary.latency.quantile(0.99)
    return f"p99 {1000 * p99:.0f} ms: {slow:.0f} of {answers:.0f} answers took over {1000 * most:.0f} ms"


def _differs(stable: Sample, canary: Sample, rules: params.Canary) -> str | None:
    found = stable.scores.psi(canary.scores)
    if found <= rules.max_score_psi:
        return None
    return f"scores differ from stable's: PSI {found:.2f} > {rules.max_score_psi:g}"
