"""A release goes through its canary under load, while the cluster's parts are killed."""

from time import monotonic

from cluster import until
from scene import Scene
from small import TREES

from loop.core import params
from loop.core.names import public

RATE = 50.0  # requests/s, before, through and after the canary
REQUESTS = 5000
DOWN = 4.0  # seconds that a killed part stays away


def test_a_pull_request_is_evaluated_and_released(scene: Scene) -> None:
    """A changed parameter is evaluated on its pull request, and merged becomes a release to production."""
    team, hub = scene.team, scene.team.hub

    def edit() -> None:
        params.edit(team.clone, {f"models.{team.model}.train.n_estimators": TREES})
        team.loop("repro", team.model)

    proposal = team.propose("more-trees", f"Train {TREES} trees", edit)
    team.expect(team.checked(proposal), "success")
    assert "champion" in hub.report(proposal.number)
    team.merge(proposal)


def test_a_good_canary_is_promoted(scene: Scene) -> None:
    """It ends promoted, no request lost, although Prometheus, Argo CD, Contour and the judge are killed."""
    team = scene.team
    served = scene.kept["before"] = team.state().stable
    with scene.load(RATE, "canary") as load:
        begun = monotonic()
        team.merge_release()
        canary = team.state().canary
        assert served
        assert canary
        reached(scene, "canary-10")
        until(lambda: load.answers().of(canary.key), "no request comes to the canary")
        share = shared(scene, canary.key)
        reached(scene, "canary-50")
        away(scene, "Argo CD")
        reached(scene, "canary-100")
        away(scene, "Contour")
        scene.cluster.kubectl(
            "delete",
            "pod",
            f"-n={scene.namespace()}",
            "-lapp.kubernetes.io/component=judge",
            "--grace-period=0",
            "--force",
            "--wait=false",
        )
        scene.tell.step("killed the judge's pod")
        reached(scene, "stable", 240)
        scene.settled()
        scene.figures.tell("merged -> promoted, four parts killed on the way", monotonic() - begun, "s")
    now = team.state()
    assert now.stable
    assert (now.stable.key, now.canary) == (canary.key, None)
    answers = load.answers()
    scene.figures.least("requests through canary and promotion", len(answers.all), "", RATE * 60)
    scene.figures.most("lost through canary and promotion", len(answers.failed), "requests", 0)
    scene.figures.within(f"share of the canary at 10 %, of {REQUESTS} requests", share, "%", (8, 12))
    assert answers.all[-1].version == canary.key


def shared(scene: Scene, key: str) -> float:
    """The canary's share of 5,000 requests, in percent; without Prometheus nothing is judged meanwhile."""
    scene.cluster.kill("Prometheus")
    scene.tell.step("killed Prometheus")
    assert scene.weights() == {"serving-stable": 90, "serving-canary": 10}
    burst = scene.burst(REQUESTS, "share")
    assert scene.weights() == {"serving-stable": 90, "serving-canary": 10}
    scene.cluster.restore("Prometheus")
    assert not burst.failed
    return 100 * len(burst.of(key)) / REQUESTS


def away(scene: Scene, part: str) -> None:
    """Kill a part, and start it again a little later."""
    scene.cluster.kill(part)
    scene.tell.step(f"killed {part}")
    back = monotonic() + DOWN
    until(lambda: monotonic() > back, "time stands still")
    scene.cluster.restore(part)


def reached(scene: Scene, step: str, seconds: float = 120) -> None:
    """Wait until main and the cluster are at a step."""
    until(lambda: scene.step() == step, lambda: f"production is at {scene.step()}, not {step}", seconds)
    until(lambda: weighted(scene, step), lambda: f"{step}: the route is {scene.weights()}", seconds)
    scene.tell.step(f"{public(scene.team.model)} is at {step}")


def weighted(scene: Scene, step: str) -> bool:
    """Whether the route has a step's weights, and at the last one the canary is gone."""
    if step == "stable":
        tracks = {each["metadata"]["name"] for each in scene.objects("apps/v1/deployments")}
        return scene.weights()["serving-canary"] == 0 and "serving-canary" not in tracks
    return scene.weights()["serving-canary"] == int(step.rpartition("-")[2])
