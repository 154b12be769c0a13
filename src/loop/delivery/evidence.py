"""The body of a release's pull request, which shows the reviewer the results of gate and rehearsal."""

from typing import Any

from loop.core.markdown import inert, table
from loop.core.names import public
from loop.core.release_state import State
from loop.delivery.candidate import Candidate
from loop.delivery.steps import described, step_of

WEIGHTLESS = "Merging sends no traffic to this canary. The canary judge raises its weight in later commits."


def markdown(candidate: Candidate, before: State, after: State) -> str:
    """Return the pull request's body as Markdown: what changes, the gate, metrics, rehearsal and image."""
    track, gate, sides = candidate.track, candidate.gate, candidate.rehearse.sides
    monitor = "none, because no container engine built it; judge and drift job do not run in the cluster"
    if after.monitor:
        monitor = after.monitor + ("" if before.monitor == after.monitor else " (new)")
    facts = {
        "now": described(before),
        "after the merge": f"{track.key} at step {step_of(after)}",
        "image": f"{track.image} ({candidate.image.kind})",
        "image of judge and drift job": monitor,
        "bento": track.bento,
        "registered model": track.mlflow,
        "trained at": track.commit,
        "model md5, data md5": f"{track.model_md5}, {track.data_md5}",
    }
    theirs = gate.champion["metrics"] if gate.champion else {}
    metrics = [
        (name, _figure(value), _figure(theirs.get(name)))
        for name, value in gate.challenger.metrics.items()
        if isinstance(value, int | float)
    ]
    champion = f"champion {gate.champion['key']}" if gate.champion else "no champion"
    difference = ""
    if found := gate.difference:
        low, mean, high = (_figure(found[name]) for name in ("low", "mean", "high"))
        difference = f"Difference of {found['metric']}: {mean} [{low}, {high}]"
    figures = dict.fromkeys(figure for side in sides.values() for figure in side)
    rehearsed = [(name, *(_figure(side.get(name)) for side in sides.values())) for name in figures]
    parts = [
        f"Release **{track.key}** of {public(candidate.model)}.",
        table(("what", "is"), facts.items()),
        "### Gate: promote\n\n" + "\n".join(f"- {inert(reason)}" for reason in gate.reasons),
        table(("metric", "candidate", champion), metrics),
        difference,
        "### Rehearsal: passed\n\n" + table(("", *map(inert, sides)), rehearsed),
        inert(candidate.rehearse.note),
        WEIGHTLESS if after.canary else "",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _figure(value: Any) -> str:
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
