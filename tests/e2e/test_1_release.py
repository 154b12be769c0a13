"""From a push to answers by the gateway."""

from time import monotonic

from cluster import until
from scene import Scene

REQUESTS = 5000


def test_a_push_to_main_is_released(scene: Scene) -> None:
    """A push is checked, trained, built, pushed and released by workflows; a person merges production's."""
    team, hub = scene.team, scene.team.hub
    checks, releases = hub.runs("ci.yml"), hub.runs("release.yml")
    begun = monotonic()
    team.git.run("push", "--quiet", "origin", "HEAD:main")
    team.expect(hub.finished("release.yml", releases, seconds=800), "success")
    scene.figures.tell(
        "push -> image, dev and staging released, production proposed", monotonic() - begun, "s"
    )
    team.expect(hub.finished("ci.yml", checks), "success")
    team.merge_release()
    served = team.state().stable
    assert served
    assert served.image.startswith(f"{scene.cluster.facts.registry}/")
    assert team.state().monitor


def test_argo_cd_brings_it_to_the_cluster(scene: Scene) -> None:
    """Every environment's pods get Ready, and run just the digest that Git names."""
    begun = monotonic()
    for environment in ("dev", "staging", "production"):
        until(lambda e=environment: scene.ready(e), f"{environment} is not Ready", 180)
    scene.figures.tell("merged -> pods Ready", monotonic() - begun, "s")
    served = scene.team.state().stable
    assert served
    for environment in ("dev", "staging", "production"):
        (status,) = scene.pods(environment)[0]["status"]["containerStatuses"]
        assert status["imageID"].rpartition("@")[2] == served.image.rpartition("@")[2]


def test_the_gateway_answers(scene: Scene) -> None:
    """5,000 requests go through Envoy to the pods, each answered by the release that Git names."""
    answers = scene.burst(REQUESTS, 250, "first")
    served = scene.team.state().stable
    assert served
    assert answers.counts() == {(served.key, 200): REQUESTS}
    scene.figures.tell("p99 by the gateway at 250 requests/s", 1000 * answers.quantile(0.99), "ms")
    requests = (
        f'sum(model_prediction_total{{namespace="{scene.namespace()}",version="{served.key}"}}) >= {REQUESTS}'
    )
    until(lambda: scene.cluster.ask(requests), "Prometheus does not count the requests")
