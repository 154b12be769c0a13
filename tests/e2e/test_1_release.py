"""A push to main becomes a release that answers through the gateway."""

from datetime import datetime
from time import monotonic, time

import httpx
from cluster import until
from scene import Scene

REQUESTS = 5000
INSIDE = ("/", "/metrics", "/livez", "/readyz", "/healthz", "/docs.json", "/predict/x")


def test_a_push_to_main_is_released(scene: Scene) -> None:
    """Workflows release a push to main; a person only merges the pull request for production."""
    team, hub = scene.team, scene.team.hub
    checks, releases = hub.runs("ci.yml"), hub.runs("release.yml")
    begun = monotonic()
    team.git.run("push", "--quiet", "origin", "HEAD:main")
    team.expect(team.finished("release.yml", releases, seconds=800), "success")
    scene.figures.record(
        "push -> image, dev and staging released, production proposed", monotonic() - begun, "s"
    )
    team.expect(team.finished("ci.yml", checks), "success")
    scene.kept["merged"] = time()
    team.merge_release()
    served = team.state().stable
    assert served
    assert served.image.startswith(f"{scene.cluster.facts.registry}/")
    assert team.state().monitor


def test_argo_cd_deploys_the_release(scene: Scene) -> None:
    """In every environment the pods get Ready, and run exactly the digest that Git names."""
    for environment in ("dev", "staging", "production"):
        until(lambda e=environment: scene.ready(e), f"{environment} is not Ready", 180)
    scene.figures.record(
        "merged -> production's first pod Ready", ready_at(scene) - scene.kept["merged"], "s"
    )
    served = scene.team.state().stable
    assert served
    for environment in ("dev", "staging", "production"):
        (status,) = scene.pods(environment)[0]["status"]["containerStatuses"]
        assert status["imageID"].rpartition("@")[2] == served.image.rpartition("@")[2]


def test_argo_cd_reports_the_commit_status(scene: Scene) -> None:
    """Argo CD reports to GitHub, as a status of the commit, that each environment runs it."""
    for environment in ("dev", "staging", "production"):

        def reported(environment: str = environment) -> bool:
            commit = scene.application(environment)["sync"]["revision"]
            found = scene.team.hub.person.call("GET", f"/commits/{commit}/statuses")
            context = f"argocd/{environment}-{scene.model}"
            return (context, "success") in {(status["context"], status["state"]) for status in found}

        until(reported, f"GitHub has no commit status for {environment}")


def ready_at(scene: Scene) -> float:
    """Return when production's first pod got Ready, in Unix time."""
    conditions = [
        one for pod in scene.pods() for one in pod["status"]["conditions"] if one["type"] == "Ready"
    ]
    return min(datetime.fromisoformat(one["lastTransitionTime"]).timestamp() for one in conditions)


def test_the_gateway_answers(scene: Scene) -> None:
    """The release that Git names answers each of 5,000 requests that go through Envoy."""
    answers = scene.burst(REQUESTS, "first")
    served = scene.team.state().stable
    assert served
    assert answers.counts() == {(served.key, 200): REQUESTS}
    scene.figures.record("p99 through the gateway, eight clients", 1000 * answers.quantile(0.99), "ms")
    requests = (
        f'sum(model_prediction_total{{namespace="{scene.namespace()}",version="{served.key}"}}) >= {REQUESTS}'
    )
    until(lambda: scene.cluster.ask(requests), "Prometheus has not counted all requests")


def test_the_public_route_serves_only_what_callers_need(scene: Scene) -> None:
    """Callers reach /predict, /health and /openapi.json through the gateway; metrics and probes get 404."""
    with scene.bodies.open() as lines:
        body = next(lines)
    gateway, host = scene.cluster.facts.gateway, {"Host": scene.host()}
    with httpx.Client(base_url=gateway, headers=host, timeout=15, trust_env=False) as client:
        json = {"Content-Type": "application/json"}
        answers = {"/predict": client.post("/predict", content=body, headers=json).status_code}
        for path in ("/health", "/openapi.json", *INSIDE):
            answers[path] = client.get(path).status_code
    expected = {"/predict": 200, "/health": 200, "/openapi.json": 200, **dict.fromkeys(INSIDE, 404)}
    assert answers == expected
