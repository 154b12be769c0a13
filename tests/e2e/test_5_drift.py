"""Production drifts: the cluster's own job finds it, and asks once for a retraining."""

from time import monotonic

from cluster import until
from scene import Scene

from loop.core.names import public
from loop.demo.traffic import replay

SCORED = 5  # one in so many transactions is scored while weeks pass


def job(scene: Scene, name: str) -> str:
    """Run the CronJob's job now, to its end; what its monitor said."""
    namespace = f"--namespace={scene.namespace()}"
    scene.cluster.kubectl("create", "job", name, "--from=cronjob/drift", namespace)
    scene.cluster.kubectl("wait", "--for=condition=complete", f"job/{name}", "--timeout=150s", namespace)
    return scene.cluster.kubectl("logs", f"job/{name}", "--container=monitor", namespace)


def test_drift_is_found_and_asked_about_once(scene: Scene) -> None:
    """After five weeks of other traffic the drift job dispatches one retraining, and its next run none."""
    team, world = scene.team, scene.world
    trains = team.hub.runs("train.yml")
    host = scene.host()
    scored = replay(world, scene.cluster.facts.gateway, world.retrain_at, SCORED, host=host)
    scene.figures.tell("predictions of five drifted weeks", scored, "")
    begun = monotonic()
    said = [job(scene, f"drift-{number}") for number in (1, 2)]
    scene.tell.line(said[0].strip().splitlines()[1])
    scene.figures.tell("two drift jobs", monotonic() - begun, "s")
    assert "drift" in said[0]
    assert len(team.hub.runs("train.yml") - trains) == 1
    scene.kept["trains"] = trains


def test_a_retraining_is_released(scene: Scene) -> None:
    """The retraining is committed to main by the bot, built, and proposed to production as a canary."""
    team = scene.team
    begun = monotonic()
    run = team.hub.finished("train.yml", scene.kept["trains"])
    team.expect(run, "success")
    scene.figures.tell("drift found -> retrained, built, proposed", monotonic() - begun, "s")
    commit = team.git.fetch("main")
    query = (
        "--all-match",
        "--grep=^Action: retrain$",
        f"--grep=^Model: {public(team.model)}$",
        "--format=%h %s",
    )
    scene.tell.step(team.git.run("log", *query, commit))
    team.merge_release()
    until(lambda: scene.step() == "canary-10", lambda: f"the canary is at {scene.step()}", 120)
