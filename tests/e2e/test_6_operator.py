"""Stable itself turns out to hurt, after its canary: an operator brings back what it served before."""

from time import monotonic

from cluster import until
from scene import Scene

from loop_demo.team import ENVIRONMENT

RATE = 50.0  # requests/s


def test_an_earlier_release_comes_back(scene: Scene) -> None:
    """One command brings the earlier release back without gate and canary; the bad release is blocked."""
    team, before = scene.team, scene.kept["before"]
    how = (scene.model, "--environment", ENVIRONMENT, "--why", "refuses good customers")
    team.loop("rollback", *how)  # the retraining's canary, which is under way
    hurts = team.state().stable
    assert hurts
    assert hurts.key != before.key
    with scene.load(RATE, "restored") as load:
        until(lambda: load.answers().of(hurts.key), f"{hurts.key} answers nothing")
        begun = monotonic()
        team.loop("rollback", *how, "--to", before.key, "--key", hurts.key)
        until(
            lambda: {answer.version for answer in load.answers().all[-int(RATE) :]} == {before.key},
            lambda: f"{before.key} does not answer all: {scene.pods()}",
        )
        scene.figures.tell("an earlier release back: command -> answers all", monotonic() - begun, "s")
        scene.settled()
    now = team.state()
    assert (now.stable, now.canary) == (before, None)
    assert now.why_barred(hurts.key) == "refuses good customers"
    scene.figures.most("an earlier release back: lost", len(load.answers().failed), "requests", 0)
