"""Production's inputs drift: the drift job in the cluster finds it and starts one retraining."""

from time import monotonic, time

from cluster import until
from scene import Scene

from loop.core import params
from loop.monitoring.dispatch import retrainings
from loop_demo.traffic import replay

SCORED = 5  # of this many transactions, one is sent to the service while weeks pass


def drift_over_threshold(scene: Scene, since: float) -> str:
    """Return the PromQL of drift scores that reach the threshold and were pushed after `since`."""
    model, limit = f'{{model="{scene.model}"}}', params.load(scene.team.clone, scene.team.model).monitor.drift
    return f"feature_drift_score{model} >= {limit} and on (model) push_time_seconds{model} > {since}"


def test_drift_starts_one_retraining(scene: Scene) -> None:
    """After five weeks of different traffic, the drift job starts one retraining; its next run starts none.

    In Prometheus the drift scores cross the threshold, and the alert fires.
    """
    team, world = scene.team, scene.world
    trains, crossed = team.hub.runs("train.yml"), drift_over_threshold(scene, time())
    scene.kept["retrained"] = retrainings(team.git, team.model, team.git.fetch("main"))
    assert not scene.cluster.ask(crossed)
    host = scene.host()
    scored = replay(world, scene.cluster.facts.gateway, world.retrain_at, SCORED, host=host)
    scene.figures.record("predictions of five drifted weeks", scored, "")
    begun = monotonic()
    said = [scene.run_drift_job(f"drift-{number}") for number in (1, 2)]
    scene.console.line(said[0].strip().splitlines()[1])
    scene.figures.record("two drift jobs", monotonic() - begun, "s")
    assert "drift" in said[0]
    assert len(team.hub.runs("train.yml") - trains) == 1
    for series in until(lambda: scene.cluster.ask(crossed), f"Prometheus has no series for {crossed}"):
        scene.console.line(f"{series['metric']['feature']} {float(series['value'][1]):.2f}")
    firing = f'ALERTS{{alertname="DriftOverThreshold", alertstate="firing", model="{scene.model}"}}'
    until(lambda: scene.cluster.ask(firing), f"the alert does not fire: {firing}")
    scene.kept["trains"] = trains


def test_a_retraining_is_released(scene: Scene) -> None:
    """The bot commits the retrained model to main and proposes its release, which starts as a canary."""
    team = scene.team
    begun = monotonic()
    run = team.finished("train.yml", scene.kept["trains"])
    team.expect(run, "success")
    scene.figures.record("drift found -> retrained, built, proposed", monotonic() - begun, "s")
    assert team.hub.runs("train.yml") - scene.kept["trains"] == {run["id"]}
    commit = team.git.fetch("main")
    assert retrainings(team.git, team.model, commit) == scene.kept["retrained"] + 1
    retraining = (
        "-1",
        "--grep=^Action: retrain$",
        "--format=%h %an: %s (%(trailers:key=Why,valueonly,separator=))",
    )
    scene.console.step(team.git.run("log", *retraining, commit))
    team.merge_release()
    until(lambda: scene.step() == "canary-10", lambda: f"the canary is at {scene.step()}", 120)
