"""A canary is promoted under load while parts of the cluster are killed."""

from time import monotonic

from cluster import until
from scene import Scene
from small import MORE_TREES

from loop.core import params
from loop.core.names import public

RATE = 50.0  # requests/s before, during and after the canary
REQUESTS = 5000
DOWN = 4.0  # seconds that a killed part stays away


def test_a_pull_request_is_evaluated_and_released(scene: Scene) -> None:
    """A pull request that changes a parameter gets an evaluation, and once merged it becomes a release."""
    team, hub = scene.team, scene.team.hub

    def edit() -> None:
        params.edit(team.clone, {f"models.{team.model}.train.n_estimators": MORE_TREES})
        team.loop("repro", team.model)

    pull = team.propose("more-trees", f"Train {MORE_TREES} trees", edit)
    team.expect(team.checked(pull), "success")
    assert "champion" in hub.report(pull["number"])
    team.merge(pull)


def test_a_good_canary_is_promoted(scene: Scene) -> None:
    """A good canary is promoted without a lost request, even if parts of the cluster are killed meanwhile.

    Killed are Prometheus, Argo CD's controller, Contour and the judge.
    """
    team = scene.team
    served = scene.kept["before"] = team.state().stable
    with scene.load(RATE, "canary") as load:
        begun = monotonic()
        team.merge_release()
        canary = team.state().canary
        assert served
        assert canary
        wait_for_step(scene, "canary-10")
        until(lambda: load.answers().of(canary.key), "the canary has answered no request")
        share = canary_share(scene, canary.key)
        wait_for_step(scene, "canary-50")
        kill_and_restart(scene, "Argo CD")
        wait_for_step(scene, "canary-100")
        kill_and_restart(scene, "Contour")
        scene.cluster.kubectl(
            "delete",
            "pod",
            f"-n={scene.namespace()}",
            "-lapp.kubernetes.io/component=judge",
            "--grace-period=0",
            "--force",
            "--wait=false",
        )
        scene.console.step("killed the judge's pod")
        wait_for_step(scene, "stable", 240)
        scene.wait_until_settled()
        scene.figures.record("merged -> promoted, with four parts killed", monotonic() - begun, "s")
    now = team.state()
    assert now.stable
    assert (now.stable.key, now.canary) == (canary.key, None)
    answers = load.answers()
    scene.figures.at_least("requests during canary and promotion", len(answers.all), "", RATE * 60)
    scene.figures.at_most("lost during canary and promotion", len(answers.failed), "requests", 0)
    scene.figures.within(f"canary's share of {REQUESTS} requests at 10 %", share, "%", (8, 12))
    assert answers.all[-1].version == canary.key


def canary_share(scene: Scene, key: str) -> float:
    """Return the canary's share of 5,000 requests, in percent."""
    scene.cluster.kill("Prometheus")  # so that the judge cannot take the canary to its next step meanwhile
    scene.console.step("killed Prometheus")
    assert scene.weights() == {"serving-stable": 90, "serving-canary": 10}
    burst = scene.burst(REQUESTS, "share")
    assert scene.weights() == {"serving-stable": 90, "serving-canary": 10}
    scene.cluster.restore("Prometheus")
    assert not burst.failed
    return 100 * len(burst.of(key)) / REQUESTS


def kill_and_restart(scene: Scene, part: str) -> None:
    """Kill a part of the cluster, and start it again after DOWN seconds."""
    scene.cluster.kill(part)
    scene.console.step(f"killed {part}")
    back = monotonic() + DOWN
    until(lambda: monotonic() > back, "the clock did not move")
    scene.cluster.restore(part)


def wait_for_step(scene: Scene, step: str, seconds: float = 120) -> None:
    """Wait until both main and the cluster are at a step."""
    until(lambda: scene.step() == step, lambda: f"main is at {scene.step()}, not {step}", seconds)
    until(
        lambda: has_weights_of(scene, step),
        lambda: f"{step}: the route's weights: {scene.weights()}",
        seconds,
    )
    scene.console.step(f"{public(scene.team.model)} is at {step}")


def has_weights_of(scene: Scene, step: str) -> bool:
    """Say whether the route has a step's weights; at `stable`, also whether the canary's pods are gone."""
    if step == "stable":
        tracks = {each["metadata"]["name"] for each in scene.objects("apps/v1/deployments")}
        return scene.weights()["serving-canary"] == 0 and "serving-canary" not in tracks
    return scene.weights()["serving-canary"] == int(step.rpartition("-")[2])
