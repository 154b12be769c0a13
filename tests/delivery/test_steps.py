"""A canary's steps follow one order, and every sequence of commands leaves a valid state."""

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from releases import MONITOR, A, B, C, canary, track

from loop.core import params
from loop.core.errors import LoopError, Rejected, Superseded
from loop.core.release_state import Barred, State, parse, release
from loop.delivery.steps import promoted, released, restored, rolled_back, step_of, watched

RULES = params.Canary()
PACES = st.builds(
    params.Canary,
    weights=st.sets(st.integers(1, 99), max_size=4).map(lambda some: sorted({*some, 100})),
    peak=st.integers(1, 60),
)


def shares(state):
    return [present.weight for present in (state.stable, state.canary) if present]


def test_a_canary_walks_to_stable():
    """Six promotions bring a canary from weight 0 to stable; each names the step that it starts from."""
    state = released(State(stable=track(A, 100)), track(B), canary=True)
    walk = []
    while state.canary:
        walk.append((step_of(state), shares(state)))
        state = promoted(state, B, step_of(state), RULES)
    assert walk == [
        ("canary-0", [100, 0]),
        ("canary-10", [90, 10]),
        ("canary-50", [50, 50]),
        ("canary-100", [0, 100]),
        ("handover", [0, 100]),
        ("return", [100, 0]),
    ]
    assert state == State(stable=track(B, 100))


@given(PACES)
@settings(max_examples=25)
def test_no_step_gives_a_track_more_than_its_pods_take(rules):
    """A promotion or rollback moves traffic only to pods that an earlier commit has requested."""
    state = released(State(stable=track(A, 100)), track(B), canary=True, rules=rules)
    while state.canary:
        after = promoted(state, B, step_of(state), rules)
        for following in (after, rolled_back(state, "errors")):
            for name in ("stable", "canary"):
                now, then = getattr(state, name), getattr(following, name)
                if then and then.weight > now.weight:
                    assert 100 * (now.replicas or 1) >= rules.peak * then.weight, (step_of(state), name)
        assert 100 * state.canary.replicas >= rules.peak * state.canary.weight
        assert parse(release(state), "release.yaml") == state
        state = after
    assert state == State(stable=track(B, 100))  # from here on the autoscaler decides alone


def test_the_first_release_goes_to_stable():
    """Without a stable release there is nothing to compare a canary with."""
    assert released(State(), track(A), canary=True) == State(stable=track(A, 100))


def test_what_watches_a_canary_stays_through_all_its_steps():
    """A release brings the monitor image, and promotions and rollbacks keep it."""
    state = released(State(stable=track(A, 100)), track(B), canary=True, monitor=MONITOR)
    assert rolled_back(state, "errors").monitor == MONITOR
    while state.canary:
        state = promoted(state, B, step_of(state), RULES)
        assert state.monitor == MONITOR


def test_what_watches_changes_by_itself_where_no_canary_is_judged():
    """A new monitor image leaves the release as it is; the same image, or no release, changes nothing."""
    state = State(stable=track(A, 100))
    after = state.model_copy(update={"monitor": MONITOR, "monitor_commit": "d" * 40})
    assert watched(state, MONITOR, "d" * 40) == after
    assert watched(after, MONITOR, "e" * 40) is None
    assert watched(State(), MONITOR, "d" * 40) is None
    with pytest.raises(Superseded, match="in progress"):
        watched(canary(10), MONITOR, "d" * 40)


def test_a_canary_without_traffic_makes_way_for_a_newer_release():
    """A canary without traffic is replaced by a newer release, because it has served nobody."""
    state = released(canary(0), track(C), canary=True)
    assert state.canary.key == C


def test_a_canary_with_traffic_is_not_replaced():
    """A canary with traffic is not replaced; it must be promoted or rolled back first."""
    with pytest.raises(Superseded, match=f"canary {B} at step canary-10"):
        released(canary(10), track(C), canary=True)


@pytest.mark.parametrize("key", [A, B])
def test_a_release_that_is_there_changes_nothing(key):
    """A release that is already stable or the canary changes nothing, whatever its weight."""
    assert released(canary(50), track(key), canary=True) is None


@pytest.mark.parametrize(("key", "step"), [(B, "canary-0"), (C, "canary-10"), (B, "handover")])
def test_a_promotion_that_expects_something_else_is_superseded(key, step):
    """A promotion whose step or key differs from the canary's is superseded."""
    with pytest.raises(Superseded, match=f"found canary {B} at step canary-10"):
        promoted(canary(10), key, step, RULES)


def test_a_step_that_does_not_exist_is_bad_input():
    """A step that does not exist is bad input, and not reported as superseded."""
    with pytest.raises(LoopError) as refused:
        promoted(canary(10), B, "canary10", RULES)
    assert not isinstance(refused.value, Superseded)


@pytest.mark.parametrize("promotions", range(6))
def test_rolling_back_gives_stable_all_traffic_and_bars_the_key(promotions):
    """At every step, even after the hand-over, a rollback gives all traffic to the former stable release.

    With `bar=False`, the key may be released again.
    """
    state = released(State(stable=track(A, 100)), track(B), canary=True)
    for _ in range(promotions):
        state = promoted(state, B, step_of(state), RULES)
    assert rolled_back(state, "errors", bar=False) == State(stable=track(A, 100))
    assert rolled_back(state, "errors") == State(stable=track(A, 100), barred=(Barred(key=B, why="errors"),))


def test_rolling_back_again_does_nothing():
    """Rolling back a second time changes nothing."""
    state = rolled_back(canary(10), "errors")
    assert rolled_back(state, "errors") is None
    assert rolled_back(state, "errors", B) is None


def test_a_canary_that_a_person_has_barred_only_rolls_back():
    """A canary that was blocked before its merge cannot be promoted, and is blocked only once."""
    state = canary(10).model_copy(update={"barred": (Barred(key=B, why="by hand"),)})
    with pytest.raises(Rejected, match="by hand"):
        promoted(state, B, "canary-10", RULES)
    assert rolled_back(state, "errors", B) == State(stable=track(A, 100), barred=state.barred)


def test_rolling_back_spares_a_canary_that_came_since():
    """A rollback with a key removes only the canary with this key, not one that came later."""
    with pytest.raises(Superseded):
        rolled_back(canary(10), "errors", C)


def test_an_earlier_release_comes_back_to_stable():
    """An earlier release gets all traffic at once, and the release that it replaces is blocked.

    Restoring it a second time changes nothing.
    """
    state = restored(State(stable=track(B, 100), monitor=MONITOR), track(A), "hurts", B)
    assert state == State(stable=track(A, 100), monitor=MONITOR, barred=(Barred(key=B, why="hurts"),))
    assert restored(state, track(A), "hurts", B) is None


@pytest.mark.parametrize(
    ("state", "to", "refused", "said"),
    [
        (canary(10), C, Superseded, "in progress: canary bbbbbbbbbbbb at step canary-10"),
        (State(stable=track(A, 100)), C, Superseded, "expected bbbbbbbbbbbb on stable"),
        (rolled_back(canary(10), "errors"), B, Rejected, "is blocked: errors"),
    ],
)
def test_an_earlier_release_does_not_come_back(state, to, refused, said):
    """An earlier release does not return beside a canary, if another key is served, or if it is blocked."""
    with pytest.raises(refused, match=said):
        restored(state, track(to), "hurts", B)


def test_a_barred_release_never_comes_again():
    """A blocked release returns neither as canary nor as stable, and the error gives the reason."""
    state = rolled_back(canary(10), "too many\nerrors")
    for as_canary in (True, False):
        with pytest.raises(Rejected, match="too many errors"):
            released(state, track(B), canary=as_canary)


class Life(RuleBasedStateMachine):
    """Runs releases, promotions, rollbacks, restores and changes of the monitor image in any order."""

    def __init__(self):
        super().__init__()
        self.state = State()

    @rule(key=st.sampled_from("0123456789"), as_canary=st.booleans())
    def release(self, key, as_canary):
        self.attempt(lambda: released(self.state, track(key * 12), canary=as_canary))

    @rule(rules=PACES)
    def promote(self, rules):
        if self.state.canary:
            self.state = promoted(self.state, self.state.canary.key, step_of(self.state), rules)

    @rule()
    def roll_back(self):
        self.attempt(lambda: rolled_back(self.state, "why"))

    @rule(digest=st.sampled_from("ef"))
    def watch(self, digest):
        self.attempt(
            lambda: watched(self.state, f"registry.example.com/monitor@sha256:{digest * 64}", digest * 40)
        )

    @rule(key=st.sampled_from("0123456789"))
    def restore(self, key):
        self.attempt(lambda: restored(self.state, track(key * 12), "why"))

    def attempt(self, change):
        with suppress(Rejected, Superseded):
            self.state = change() or self.state

    @invariant()
    def sound(self):
        """Each written state can be read; reading validates weights, keys and `previous`."""
        assert parse(release(self.state), "release.yaml") == self.state

    @invariant()
    def all_traffic_goes_somewhere(self):
        assert sum(shares(self.state)) == (100 if self.state.stable else 0)

    @invariant()
    def nothing_barred_serves(self):
        present = {track.key for track in (self.state.stable, self.state.canary) if track}
        assert not present & {barred.key for barred in self.state.barred}


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=25, stateful_step_count=20)
