"""Production drifts: the cluster's own job finds it, and asks once for a retraining."""

from time import monotonic, time

from cluster import until
from scene import Scene

from loop.core import params
from loop.monitoring.dispatch import retrainings
from loop_demo.traffic import replay

SCORED = 5  # one in so many transactions is scored while weeks pass


def over(scene: Scene, since: float) -> str:
    """PromQL: what the monitor has pushed since then that is over the threshold of drift."""
    model, limit = f'{{model="{scene.model}"}}', params.load(scene.team.clone, scene.team.model).monitor.drift
    return f"feature_drift_score{model} >= {limit} and on (model) push_time_seconds{model} > {since}"


def test_drift_is_found_and_asked_about_once(scene: Scene) -> None:
    """After five weeks of other traffic the drift job dispatches one retraining, and its next run none.

    Prometheus sees the series cross the threshold, and its alert fires.
    """
    team, world = scene.team, scene.world
    trains, crossed = team.hub.runs("train.yml"), over(scene, time())
    scene.kept["retrained"] = retrainings(team.git, team.model, team.git.fetch("main"))
    assert not scene.cluster.ask(crossed)
    host = scene.host()
    scored = replay(world, scene.cluster.facts.gateway, world.retrain_at, SCORED, host=host)
    scene.figures.tell("predictions of five drifted weeks", scored, "")
    begun = monotonic()
    said = [scene.job(f"drift-{number}") for number in (1, 2)]
    scene.tell.line(said[0].strip().splitlines()[1])
    scene.figures.tell("two drift jobs", monotonic() - begun, "s")
    assert "drift" in said[0]
    assert len(team.hub.runs("train.yml") - trains) == 1
    for series in until(lambda: scene.cluster.ask(crossed), f"no series is over: {crossed}"):
        scene.tell.line(f"{series['metric']['feature']} {float(series['value'][1]):.2f}")
    firing = f'ALERTS{{alertname="DriftOverThreshold", alertstate="firing", model="{scene.model}"}}'
    until(lambda: scene.cluster.ask(firing), f"not there: {firing}")
    scene.kept["trains"] = trains


def test_a_retraining_is_released(scene: Scene) -> None:
    """The retraining is committed to main by the bot, built, and proposed to production as a canary."""
    team = scene.team
    begun = monotonic()
    run = team.finished("train.yml", scene.kept["trains"])
    team.expect(run, "success")
    scene.figures.tell("drift found -> retrained, built, proposed", monotonic() - begun, "s")
    assert team.hub.runs("train.yml") - scene.kept["trains"] == {run["id"]}
    commit = team.git.fetch("main")
    assert retrainings(team.git, team.model, commit) == scene.kept["retrained"] + 1
    retraining = (
        "-1",
        "--grep=^Action: retrain$",
        "--format=%h %an: %s (%(trailers:key=Why,valueonly,separator=))",
    )
    scene.tell.step(team.git.run("log", *retraining, commit))
    team.merge_release()
    until(lambda: scene.step() == "canary-10", lambda: f"the canary is at {scene.step()}", 120)
