"""Computes the next release state at each step of a canary; pure functions without Git and cluster.

The steps are canary-0 → canary-10 → canary-50 → canary-100 → handover → return → stable. params.yaml sets the
weights.
"""

import re
from math import ceil

from loop.core import params
from loop.core.errors import LoopError, Rejected, Superseded
from loop.core.release_state import Barred, State, Track
from loop.core.text import one_line

CANARY = re.compile(r"canary-(\d{1,3})")
DEFAULT = params.Canary()
# Pages of the docs, for errors.
BARRED = "docs/runbooks/production.md#a-release-was-blocked-by-mistake"
BY_HAND = "docs/runbooks/production.md#roll-back-a-canary-by-hand"


def step_of(state: State) -> str:
    """Return the step that a state is at: none, stable, canary-<weight>, handover or return."""
    if state.canary is None:
        return "stable" if state.stable else "none"
    if state.previous is None:
        return f"canary-{state.canary.weight}"
    return "handover" if state.canary.weight else "return"


def released(
    state: State,
    track: Track,
    *,
    canary: bool,
    monitor: str | None = None,
    rules: params.Canary = DEFAULT,
) -> State | None:
    """Return the state with a new release as a canary at weight 0, or on stable if `canary` is false.

    The first release always goes to stable. `monitor` is the monitor image, built from the same commit.
    Returns None if the state has this release already. Raises Rejected if the release is blocked, and
    Superseded while another canary has traffic.
    """
    if why := state.why_barred(track.key):
        fix = "release a different model or service"
        raise Rejected(f"release {track.key} is blocked: {why}", fix=fix, docs=BARRED)
    if track.key in {present.key for present in (state.stable, state.canary) if present}:
        return None
    if step_of(state) not in {"none", "stable", "canary-0"}:
        raise _under_way(state)
    watch = {"monitor": monitor, "monitor_commit": track.commit if monitor else None}
    if state.stable and canary:
        return _with_pods(state.model_copy(update={"canary": _at(track, 0), **watch}), rules)
    return state.model_copy(update={"stable": _at(track, 100), "canary": None, **watch})


def promoted(state: State, key: str, step: str, rules: params.Canary) -> State:
    """Return the state one step after `step` of canary `key`.

    Raises LoopError if `step` is not the name of a step, Superseded if canary `key` is not at `step`, and
    Rejected if the release is blocked.
    """
    if not (CANARY.fullmatch(step) or step in {"handover", "return"}):
        raise LoopError(f"{step!r} is not a step", fix="use canary-<weight>, handover or return")
    if state.canary is None or state.stable is None or (key, step) != (state.canary.key, step_of(state)):
        raise Superseded(f"expected canary {key} at step {step}, found {described(state)}")
    if barred := state.why_barred(key):
        raise Rejected(f"canary {key} is blocked: {barred}", fix="roll it back", docs=BY_HAND)
    update: dict[str, Track | None]
    match step:
        case "handover":
            update = {"stable": _at(state.stable, 100), "canary": _at(state.canary, 0)}
        case "return":
            update = {"stable": _at(state.stable, 100), "canary": None, "previous": None}
        case _ if heavier := _next(state.canary.weight, rules):
            update = {"stable": _at(state.stable, 100 - heavier), "canary": _at(state.canary, heavier)}
        case _:
            update = {"stable": _at(state.canary, 0), "previous": _at(state.stable, 100)}
    return _with_pods(state.model_copy(update=update), rules)


def rolled_back(state: State, why: str, key: str | None = None, *, bar: bool = True) -> State | None:
    """Return the state without its canary, whose release is blocked if `bar`; None if there is no canary.

    After the hand-over, stable returns to the release that it served before. Raises Superseded if `key` is
    given and the canary is another release; if `key` is blocked already, None is returned instead.
    """
    canary = state.canary and state.canary.key
    if key and key != canary and state.why_barred(key):
        return None
    if key and key != canary:
        raise Superseded(f"expected canary {key}, found {described(state)}")
    if state.canary is None or state.stable is None:
        return None
    stable = _at(state.previous or state.stable, 100)
    barred = _barred(state, state.canary.key, why) if bar else state.barred
    return state.model_copy(update={"stable": stable, "canary": None, "previous": None, "barred": barred})


def restored(state: State, track: Track, why: str, key: str | None = None) -> State | None:
    """Return the state with an earlier release on stable, and the replaced release blocked.

    Returns None if stable serves the earlier release already. Raises Superseded while a canary is in
    progress, or if `key` is given and stable serves another release, and Rejected if the earlier release is
    blocked.
    """
    if state.canary:
        raise _under_way(state)
    if state.stable is None or state.stable.key == track.key:
        return None
    if barred := state.why_barred(track.key):
        fix = "choose another, or remove it from `barred`"
        raise Rejected(f"release {track.key} is blocked: {barred}", fix=fix, docs=BARRED)
    if key and key != state.stable.key:
        raise Superseded(f"expected {key} on stable, found {described(state)}")
    update = {"stable": _at(track, 100), "barred": _barred(state, state.stable.key, why)}
    return state.model_copy(update=update)


def watched(state: State, monitor: str, built: str) -> State | None:
    """Return the state with another monitor image, built from commit `built`.

    Returns None if the state has that image already or has no release. Raises Superseded while a canary is in
    progress, because one version of the judge should watch a canary from start to end.
    """
    if state.stable is None or state.monitor == monitor:
        return None
    if state.canary:
        raise _under_way(state)
    return state.model_copy(update={"monitor": monitor, "monitor_commit": built})


def _under_way(state: State) -> Superseded:
    """Return the error of a change that must wait until the canary has ended."""
    fix = "promote it to the end, or roll it back"
    return Superseded(f"in progress: {described(state)}", fix=fix, docs=BY_HAND)


def described(state: State) -> str:
    """Describe a state in a few words, for messages."""
    if state.canary:
        return f"canary {state.canary.key} at step {step_of(state)}"
    return f"no canary; stable serves {state.stable.key}" if state.stable else "no release"


def _barred(state: State, key: str, why: str) -> tuple[Barred, ...]:
    """Return the blocked releases plus one, without repeating a release that a person blocked earlier."""
    return state.barred if state.why_barred(key) else (*state.barred, Barred(key=key, why=one_line(why)))


def _at(track: Track, weight: int) -> Track:
    return track.model_copy(update={"weight": weight, "replicas": None})


def _next(weight: int, rules: params.Canary) -> int | None:
    """Return the next higher weight of a canary; None after the last."""
    return next((heavier for heavier in rules.weights if heavier > weight), None)


def _with_pods(state: State, rules: params.Canary) -> State:
    """Return the state with the minimum of pods that each track needs now and at the next step.

    An autoscaler adds pods only after traffic has come. So a canary gets the pods of its next weight in
    advance. Stable keeps the pods for all traffic while the canary has any, because a rollback returns it all
    at once.
    """
    if state.canary is None or state.stable is None:
        return state
    step, weight = step_of(state), state.canary.weight
    ahead = weight if state.previous else _next(weight, rules) or weight
    least = max(1, ceil(rules.peak * ahead / 100))
    update = {"canary": state.canary.model_copy(update={"replicas": least})}
    if step != "canary-0" and rules.peak > 1:  # with peak 1, the overlay's minimum of pods stays
        update["stable"] = state.stable.model_copy(update={"replicas": rules.peak})
    return state.model_copy(update=update)
