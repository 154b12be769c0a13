"""A load that one pod cannot carry: each step of a canary starts its pods before it gets its traffic."""

from cluster import until
from faults import spoilt
from scene import QUIET, Scene

from loop.core import params
from loop.core.names import public

# One pod of the heavy service answers eight requests/s. It sleeps, because two cores have no CPU to spare.
RATE = 10.0  # requests/s
PEAK = 2  # pods
RULES = {"peak": PEAK, "weights": [50, 100], "min_requests": 50, "min_p99_ms": 2000}


def test_a_step_starts_its_pods_before_its_traffic(scene: Scene) -> None:
    """A service that needs two pods is promoted, and no request is lost, refused or late."""
    team = scene.team
    release_heavy_service(scene)
    short: list[str] = []
    tracks = {"canary"}  # not stable, which serves the old, light service until all traffic has left it
    with scene.load(RATE, "pods") as load:
        team.merge_release()
        canary = team.state().canary
        assert canary

        def promoted() -> bool:
            if scene.weights()["serving-stable"] == 0:
                tracks.add("stable")
            short.extend(tracks_short_of_pods(scene, tracks))
            return scene.step() == "stable"

        until(promoted, lambda: f"{canary.key} is not promoted: {team.state()}", 300)
        scene.wait_until_settled()
        until(lambda: load.answers().all[-1].version == canary.key, "stable still serves the old release")
    answers = load.answers()
    assert not short
    assert (now := team.state().stable)
    assert now.key == canary.key
    scene.figures.at_most("load that needs two pods: lost or refused", len(answers.failed), "requests", 0)
    scene.figures.at_most("load that needs two pods: p99", 1000 * answers.quantile(0.99), "ms", 2000)


def release_heavy_service(scene: Scene) -> None:
    """Push the service with the heavy scorer and the params that give it two pods, and release it."""
    team = scene.team
    path = team.clone / "bentos" / team.model / "asgi.py"
    small = team.clone / "kustomize" / "components" / "small" / "kustomization.yaml"
    one = "      - op: replace\n        path: /spec/minReplicas\n        value: 1\n"

    def edit() -> None:
        assert one in small.read_text()
        small.write_text(small.read_text().replace(one, ""))  # it would override the release's number
        path.write_text(spoilt(path.read_text(), "heavy"))
        params.edit(team.clone, {f"models.{team.model}.canary.{key}": value for key, value in RULES.items()})

    scene.push(f"A service that needs two pods {QUIET}", edit)
    before = team.hub.runs("release.yml")
    team.hub.person.dispatch("release.yml", {"model": public(team.model)})
    team.expect(team.finished("release.yml", before), "success")


def tracks_short_of_pods(scene: Scene, tracks: set[str]) -> list[str]:
    """Return the tracks with fewer ready pods than their traffic needs, or none if the route has changed."""
    weights, found = scene.weights(), []
    for track in tracks:
        weight, there = weights[f"serving-{track}"], scene.ready_pods(track)
        if there < PEAK * weight / 100:
            found.append(f"{track}: {there} pods at {weight} %")
    return found if scene.weights() == weights else []
