"""A release turns out to be harmful after its promotion, so an operator restores the release before it."""

from time import monotonic

from cluster import until
from scene import Scene

from loop_demo.team import ENVIRONMENT

RATE = 50.0  # requests/s


def test_one_command_restores_an_earlier_release(scene: Scene) -> None:
    """One command restores an earlier release without gate or canary, and blocks the harmful one."""
    team, before = scene.team, scene.kept["before"]
    how = (scene.model, "--environment", ENVIRONMENT, "--why", "refuses good customers")
    team.loop("rollback", *how)  # first the canary of the retrained model, which is still running
    harmful = team.state().stable
    assert harmful
    assert harmful.key != before.key
    with scene.load(RATE, "restored") as load:
        until(lambda: load.answers().of(harmful.key), f"{harmful.key} has answered no request")
        begun = monotonic()
        team.loop("rollback", *how, "--to", before.key, "--key", harmful.key)
        until(
            lambda: {answer.version for answer in load.answers().all[-int(RATE) :]} == {before.key},
            lambda: f"{before.key} does not answer all requests: {scene.pods()}",
        )
        scene.figures.record(
            "earlier release restored: command -> it answers all requests", monotonic() - begun, "s"
        )
        scene.wait_until_settled()
    now = team.state()
    assert (now.stable, now.canary) == (before, None)
    assert now.why_barred(harmful.key) == "refuses good customers"
    scene.figures.at_most("earlier release restored: lost", len(load.answers().failed), "requests", 0)
