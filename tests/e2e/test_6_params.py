"""A parameter of judge and monitor reaches the cluster by a push, though no model is released."""

from time import monotonic

from scene import Scene

from loop.core import params


def test_what_watches_follows_main(scene: Scene) -> None:
    """With a blocked release on main no model is released, but the drift job runs with main's new params."""
    team = scene.team
    before, releases = team.state(), team.hub.runs("release.yml")
    change = {f"models.{team.model}.monitor.cooldown_hours": 72}
    begun = monotonic()
    scene.push("Let three days pass between retrainings", lambda: params.edit(team.clone, change))
    team.expect(team.finished("release.yml", releases), "success")
    after = team.state()
    rebuilt = {"monitor": after.monitor, "monitor_commit": after.monitor_commit}
    assert after == before.model_copy(update=rebuilt)
    assert after.monitor != before.monitor
    scene.settled()
    (job,) = scene.objects("batch/v1/cronjobs")
    (container,) = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert container["image"] == after.monitor
    scene.figures.tell("a parameter of the monitor -> the drift job has it", monotonic() - begun, "s")
