"""A push of a parameter for judge or monitor reaches the cluster even when no model is released."""

from time import monotonic

from scene import Scene

from loop.core import params


def test_the_drift_job_follows_the_params_on_main(scene: Scene) -> None:
    """While main's model is blocked, a push releases no model, but the drift job gets main's new params."""
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
    scene.wait_until_settled()
    (job,) = scene.objects("batch/v1/cronjobs")
    (container,) = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert container["image"] == after.monitor
    scene.figures.record("new parameter of the monitor -> the drift job has it", monotonic() - begun, "s")
