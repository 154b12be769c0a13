"""The loop works for another kind of model: a regression on strings and numbers with gaps, without times."""

import json
from collections.abc import Callable
from dataclasses import replace
from urllib.parse import urlsplit

import pyarrow.parquet as pq
import pytest
from cluster import until
from ruamel.yaml import YAML
from scene import Scene
from small import allow_egress
from test_3_canary import wait_for_step
from trained import add

from loop.core import models, params
from loop.core.project import Project
from loop.core.release_state import State, files

MODEL = "rents"
RATE = 50.0  # requests/s through the canary
FLATS = 500  # flats whose rents are requested
TOO_MUCH, RIGHT = 1e4, 1.0  # the penalty of the first model, and of the one that replaces it


@pytest.fixture(scope="module")
def rents(scene: Scene) -> Scene:
    """Return the scene with the second model in place of the first."""
    return replace(scene, team=replace(scene.team, model=MODEL), bodies=scene.folder / "flats.jsonl")


def change_and_release(rents: Scene, title: str, edit: Callable[[], None]) -> None:
    """Change the model, train it, push it, and merge the release that the workflows propose."""
    team, before = rents.team, rents.team.hub.runs("release.yml")

    def trained() -> None:
        edit()
        team.loop("repro", MODEL)

    rents.push(title, trained)
    team.expect(team.finished("release.yml", before, seconds=800), "success")
    team.merge_release()


def add_model(rents: Scene) -> None:
    """Add the model's folders, and its overlay in each environment with its own host name."""
    clone, hub = rents.team.clone, rents.team.hub
    add(clone, MODEL)
    address = (rents.cluster.facts.host, urlsplit(hub.url).port or 80)
    yaml, dev = YAML(), rents.overlay("dev").read_text()
    for environment in ("dev", "staging", "production"):
        overlay = yaml.load(dev.replace("dev", environment))
        host = [{"op": "add", "path": "/spec/hostnames", "value": [f"rents.{environment}.example.com"]}]
        overlay["patches"] = [{"target": {"kind": "HTTPRoute", "name": "serving"}, "patch": json.dumps(host)}]
        if environment == "production":
            overlay["patches"] += [allow_egress(*address, policy) for policy in ("judge", "drift")]
        for name, text in files(State(), environment, MODEL).items():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            (clone / name).write_text(text)
        with rents.overlay(environment).open("w") as file:
            yaml.dump(overlay, file)
    few = {"train.penalty": TOO_MUCH, "gate.floors": {}, "canary": {"peak": 1, "max_score_psi": 5.0}}
    params.edit(clone, {f"models.{MODEL}.{key}": value for key, value in few.items()})


def test_a_regression_is_released(rents: Scene) -> None:
    """A regression needs only its folder: after the push it is trained and released, and answers requests."""
    rents.prepare_namespace()
    change_and_release(rents, "Add rents", lambda: add_model(rents))
    until(lambda: rents.ready("production"), "production's pods are not Ready", 180)
    roles = models.load(rents.team.clone, MODEL).roles
    with rents.bodies.open("w") as file:
        for row in pq.read_table(Project(rents.team.clone, MODEL).raw).slice(0, FLATS).to_pylist():
            flat = row.pop(roles.id)
            row.pop(roles.label)
            file.write(json.dumps({"id": flat, "features": row}) + "\n")
    answers = rents.burst(FLATS, "rents")
    served = rents.team.state().stable
    assert served
    assert answers.counts() == {(served.key, 200): FLATS}


def test_a_better_regression_is_promoted(rents: Scene) -> None:
    """The regression's own judge promotes a better one step by step, and no request is lost."""
    edit = {f"models.{MODEL}.train.penalty": RIGHT}
    with rents.load(RATE, "rents-canary") as load:
        change_and_release(rents, "Fit rents closer", lambda: params.edit(rents.team.clone, edit))
        canary = rents.team.state().canary
        assert canary
        wait_for_step(rents, "canary-10")
        wait_for_step(rents, "stable", 240)
        until(lambda: load.answers().all[-1].version == canary.key, "stable still serves the old release")
    assert not load.answers().failed
    assert load.answers().of(canary.key)


def test_the_drift_job_watches_a_regression(rents: Scene) -> None:
    """The drift job compares the regression's strings and numbers with the training data: no drift."""
    said = rents.run_drift_job("drift-rents")
    rents.console.line(said.strip().splitlines()[1])
    query = f'feature_drift_score{{model="{MODEL}"}}'
    found = until(lambda: rents.cluster.ask(query), f"Prometheus has no series for {query}")
    limit = params.load(rents.team.clone, MODEL).monitor.drift
    scores = {one["metric"]["feature"]: float(one["value"][1]) for one in found}
    assert {"district", "heating", "area", "rooms", "balcony"} <= set(scores)
    assert max(scores.values()) < limit
