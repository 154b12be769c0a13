"""A load that one pod can't take: each step of a canary has its pods before its traffic comes."""

from cluster import until
from faults import spoilt
from scene import QUIET, Scene

from loop.core import params
from loop.core.names import public

# One pod of the heavy service answers eight requests/s. It sleeps, because two cores have no CPU to spare.
RATE = 10.0  # requests/s
PEAK = 2  # pods
RULES = {"peak": PEAK, "weights": [50, 100], "min_requests": 50, "min_p99_ms": 2000}


def test_a_step_brings_its_pods_before_its_traffic(scene: Scene) -> None:
    """A sound service that takes two pods is promoted, and nothing is lost, refused or late on the way."""
    team = scene.team
    released(scene)
    short: list[str] = []
    tracks = {"canary"}  # stable is the old, light service until all traffic has left it
    with scene.load(RATE, "pods") as load:
        team.merge_release()
        canary = team.state().canary
        assert canary

        def promoted() -> bool:
            if scene.weights()["serving-stable"] == 0:
                tracks.add("stable")
            short.extend(lacking(scene, tracks))
            return scene.step() == "stable"

        until(promoted, lambda: f"{canary.key} is {team.state()}", 300)
        scene.settled()
        until(lambda: load.answers().all[-1].version == canary.key, "stable serves the old release")
    answers = load.answers()
    assert not short
    assert (now := team.state().stable)
    assert now.key == canary.key
    scene.figures.most("a load that takes two pods: lost or refused", len(answers.failed), "requests", 0)
    scene.figures.most("a load that takes two pods: p99", 1000 * answers.quantile(0.99), "ms", 2000)


def released(scene: Scene) -> None:
    """The service with the heavy scorer, and params that give it its pods, released to production."""
    team = scene.team
    path = team.clone / "bentos" / team.model / "asgi.py"
    small = team.clone / "kustomize" / "components" / "small" / "kustomization.yaml"
    one = "      - op: replace\n        path: /spec/minReplicas\n        value: 1\n"

    def edit() -> None:
        assert one in small.read_text()
        small.write_text(small.read_text().replace(one, ""))  # or it would override the release's own
        path.write_text(spoilt(path.read_text(), "heavy"))
        params.edit(team.clone, {f"models.{team.model}.canary.{key}": value for key, value in RULES.items()})

    scene.push(f"A service that takes two pods {QUIET}", edit)
    before = team.hub.runs("release.yml")
    team.hub.person.dispatch("release.yml", {"model": public(team.model)})
    team.expect(team.finished("release.yml", before), "success")


def lacking(scene: Scene, tracks: set[str]) -> list[str]:
    """Tracks whose ready pods are fewer than their traffic takes, while the route stays as it is."""
    weights, found = scene.weights(), []
    for track in tracks:
        weight, there = weights[f"serving-{track}"], scene.ready_pods(track)
        if there < PEAK * weight / 100:
            found.append(f"{track}: {there} pods at {weight} %")
    return found if scene.weights() == weights else []
