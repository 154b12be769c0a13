"""The steps of a canary, as functions from one state to the next. They know neither Git nor cluster.

canary-0 → canary-10 → canary-50 → canary-100 → handover → return → stable; the weights are params.yaml's.
"""

import re
from math import ceil

from loop.core import params
from loop.core.errors import LoopError, Rejected, Superseded
from loop.core.text import one_line
from loop.delivery.state import Barred, State, Track

CANARY = re.compile(r"canary-(\d{1,3})")
DEFAULT = params.Canary()
# Pages of the docs, for errors.
BARRED = "docs/runbooks/production.md#a-release-was-barred-by-mistake"
BY_HAND = "docs/runbooks/production.md#roll-back-a-canary-by-hand"


def step_of(state: State) -> str:
    """Which step a state is at: none, stable, canary-<weight>, handover or return."""
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
    """The state with a new release: as a canary at weight 0, or on stable; None where it is there already.

    The first release goes to stable; `monitor` is the image of what watches it, built from the same commit.
    Rejected where its key is barred, Superseded while a canary has traffic.
    """
    if why := state.why_barred(track.key):
        fix = "release a model or service that differs"
        raise Rejected(f"release {track.key} is barred: {why}", fix=fix, docs=BARRED)
    if track.key in {present.key for present in (state.stable, state.canary) if present}:
        return None
    if step_of(state) not in {"none", "stable", "canary-0"}:
        raise _under_way(state)
    watch = {"monitor": monitor, "monitor_commit": track.commit if monitor else None}
    if state.stable and canary:
        return _with_pods(state.model_copy(update={"canary": _at(track, 0), **watch}), rules)
    return state.model_copy(update={"stable": _at(track, 100), "canary": None, **watch})


def promoted(state: State, key: str, step: str, rules: params.Canary) -> State:
    """One step on from `step` with canary `key`; Superseded if it is not there, Rejected if barred."""
    if not (CANARY.fullmatch(step) or step in {"handover", "return"}):
        raise LoopError(f"{step!r} is no step of a canary", fix="canary-<weight>, handover or return")
    if state.canary is None or state.stable is None or (key, step) != (state.canary.key, step_of(state)):
        raise Superseded(f"expected canary {key} at step {step}, found {described(state)}")
    if barred := state.why_barred(key):
        raise Rejected(f"canary {key} is barred: {barred}", fix="roll it back", docs=BY_HAND)
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
    """The state without its canary, whose key is barred if `bar`; None where there is nothing to roll back.

    After the hand-over stable takes back what it had before. With `key`, Superseded where it is another.
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
    """The state with an earlier release on stable, the one that it replaces barred; None where it is there.

    Superseded while a canary is under way and, with `key`, where stable serves another; Rejected where the
    earlier one is barred.
    """
    if state.canary:
        raise _under_way(state)
    if state.stable is None or state.stable.key == track.key:
        return None
    if barred := state.why_barred(track.key):
        raise Rejected(
            f"release {track.key} is barred: {barred}",
            fix="another one, or take it from `barred`",
            docs=BARRED,
        )
    if key and key != state.stable.key:
        raise Superseded(f"expected {key} on stable, found {described(state)}")
    barred_now = _barred(state, state.stable.key, why)
    return state.model_copy(update={"stable": _at(track, 100), "barred": barred_now})


def watched(state: State, monitor: str, built: str) -> State | None:
    """The state with another image of judge and drift; None where it has that, or serves nothing to watch.

    `built` is the commit that the image was built from.

    Superseded while a canary is under way: the judge that began with it takes it to its end.
    """
    if state.stable is None or state.monitor == monitor:
        return None
    if state.canary:
        raise _under_way(state)
    return state.model_copy(update={"monitor": monitor, "monitor_commit": built})


def _under_way(state: State) -> Superseded:
    """The error where a canary has to end before anything else may change."""
    fix = "promote it to its end, or roll it back"
    return Superseded(f"under way: {described(state)}", fix=fix, docs=BY_HAND)


def described(state: State) -> str:
    """A state in a few words."""
    if state.canary:
        return f"canary {state.canary.key} at step {step_of(state)}"
    return f"no canary; stable serves {state.stable.key}" if state.stable else "no release"


def _barred(state: State, key: str, why: str) -> tuple[Barred, ...]:
    """What is barred, with one more: once, as a person may have barred it while it was under way."""
    return state.barred if state.why_barred(key) else (*state.barred, Barred(key=key, why=one_line(why)))


def _at(track: Track, weight: int) -> Track:
    return track.model_copy(update={"weight": weight, "replicas": None})


def _next(weight: int, rules: params.Canary) -> int | None:
    """The weight of the next step up; None after the last."""
    return next((heavier for heavier in rules.weights if heavier > weight), None)


def _with_pods(state: State, rules: params.Canary) -> State:
    """The state with the pods that each track needs for its traffic now and at the next step.

    An autoscaler starts pods only when the traffic is there. So a canary has those of its next weight before
    the step, and stable, once a canary has traffic, those of all traffic: a rollback gives it that at once.
    """
    if state.canary is None or state.stable is None:
        return state
    step, weight = step_of(state), state.canary.weight
    ahead = weight if state.previous else _next(weight, rules) or weight
    least = {"canary": max(1, ceil(rules.peak * ahead / 100))}
    if step != "canary-0" and rules.peak > 1:  # the overlay's own minimum may be above one
        least["stable"] = rules.peak
    tracks = {"stable": state.stable, "canary": state.canary}
    return state.model_copy(
        update={name: tracks[name].model_copy(update={"replicas": n}) for name, n in least.items()}
    )
