"""The circle's workflows under act: a push, its release, drift, a retraining, a gate that rejects."""

import json
from pathlib import Path

import mlflow
import numpy as np
import pytest
from standin import Clone, Server, StandIn
from trained import MODEL, change, copy, loop, trained_once

from loop.core import models
from loop.core.paths import ModelPaths
from loop.delivery.state import State, folder, parse
from loop.demo.world import World

__all__ = ["trained_once"]
EVERY = 10  # one transaction in so many is asked about


@pytest.fixture
def standin(trained_once: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch):
    """A repository without registry or engine, a tracking server on disk, and production's log."""
    (cache / "dvc").symlink_to(trained_once / "cache")
    monkeypatch.setenv("LOOP_ENGINE", "none")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    log = f"PREDICTION_LOG={tmp_path}/log"
    server = Server(tmp_path / "github", "--repository", "acme/r", "--var", log)
    yield StandIn(server, "acme/r")
    server.stop()


@pytest.fixture
def clone(standin: StandIn, trained_once: Path, tmp_path: Path) -> Clone:
    """A person's clone of a trained main whose production is logged."""
    clone = Clone(copy(trained_once, tmp_path))
    clone.git("remote", "set-url", "origin", standin.clone_url("person"))
    change(clone.folder, monitor__store=str(tmp_path / "store"))
    clone.commit("Log production", {})
    clone.git("push", "-q", standin.clone_url("bot"), "HEAD:main")
    return clone


def green(standin: StandIn, workflow: str, number: int = 1) -> None:
    """Wait until a workflow has so many runs; all have succeeded."""
    for run in standin.finished(workflow, number):
        assert run["conclusion"] == "success", standin.log(run)[-8000:]


def log(clone: Clone, *words: str) -> list[str]:
    """What main's log has of commits whose messages hold all words: their messages, newest first."""
    clone.git("fetch", "-q", "origin", "main")
    found = clone.git("log", "-z", "--format=%B", "origin/main").stdout.split("\0")
    return [message for message in found if all(word in message for word in words)]


def state(clone: Clone, environment: str) -> State:
    clone.git("fetch", "-q", "origin", "main")
    path = f"{folder(environment, MODEL)}/release.yaml"
    return parse(clone.git("show", f"origin/main:{path}").stdout, path)


def production(clone: Clone, key: str, world: World, into: Path) -> None:
    """Five drifted weeks of production, answered and logged as a served model does."""
    score = models.load(clone.folder, MODEL).estimator.load(ModelPaths(clone.folder, MODEL).trained)
    lines = []
    while rows := world.take(5000, world.retrain_at):
        asked = rows[::EVERY]
        scores = score(np.array([row["features"] for row in asked]))
        lines += [
            {
                "time": "2018-07-20T00:00:00Z",
                "model": MODEL,
                "version": key,
                "score": float(one),
                "class": int(one > 0.5),
                **row,
            }
            for row, one in zip(asked, scores, strict=True)
        ]
    into.mkdir()
    (into / "pod-1.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.mark.slow
@pytest.mark.timeout(1200)  # three minutes of work, on a machine that may be busy
def test_the_circle(standin: StandIn, clone: Clone, tmp_path: Path, cache: Path) -> None:
    """What each run leaves: commits, a pull request, the registry's versions; run again, nothing more."""
    change(clone.folder, train__n_estimators=30)
    loop(clone.folder, "repro", MODEL)
    clone.push("Train 30 trees", {})
    green(standin, "release.yml")
    green(standin, "ci.yml")
    released(standin, clone, cache)
    again(standin, clone)
    drifted(standin, clone, tmp_path)


def released(standin: StandIn, clone: Clone, cache: Path) -> None:
    """To dev and staging by commit, production by pull request, all of one digest that lies in the cache."""
    key = state(clone, "dev").stable.key
    assert state(clone, "staging").stable.key == key
    assert state(clone, "production").stable is None
    assert len(log(clone, "Action: release")) == 2
    (pull,) = standin.ask("GET", "/pulls").json()
    assert key in pull["title"]
    assert "### Gate: promote" in pull["body"]
    digest = state(clone, "dev").stable.image.partition("@sha256:")[2]
    assert (cache / "images" / MODEL / "blobs" / "sha256" / digest).is_file()
    client = mlflow.MlflowClient(f"sqlite:///{cache.parent}/mlflow.db")
    (version,) = client.search_model_versions(f"name='{MODEL}'")
    assert version.tags["model_md5"] == state(clone, "dev").stable.model_md5


def again(standin: StandIn, clone: Clone) -> None:
    """A release that is finished, dispatched once more, builds and commits nothing."""
    (pull,) = standin.ask("GET", "/pulls").json()
    standin.ask("PUT", f"/pulls/{pull['number']}/merge", body={"merge_method": "squash"})
    before = log(clone)
    standin.as_("person").dispatch("release.yml", {"model": MODEL, "reason": "once more"})
    green(standin, "release.yml", 2)
    assert log(clone) == before
    assert standin.ask("GET", "/pulls").json() == []


def drifted(standin: StandIn, clone: Clone, tmp_path: Path) -> None:
    """Drift dispatches `train`, whose commits say so; what it has trained is proposed as a canary."""
    store, package = tmp_path / "store", "fraud_detector"
    world = World(clone.folder, package, store, calm_days=0, drift_days=35, after_days=0)
    production(clone, state(clone, "production").stable.key, world, tmp_path / "log")
    standin.as_("person").dispatch("drift.yml", {"model": MODEL})
    green(standin, "drift.yml")
    green(standin, "train.yml")
    (told,) = log(clone, "Action: retrain")
    assert "\nWhy: drift " in told
    assert "\nWhy: drift " in log(clone, "Action: release", "Environment: dev")[0]
    (pull,) = standin.ask("GET", "/pulls").json()
    assert "canary" in pull["title"]


@pytest.mark.slow
def test_a_gate_that_rejects(standin: StandIn, clone: Clone) -> None:
    """It is red and leaves no commit, no pull request and no version in the registry."""
    change(clone.folder, **{"gate.floors": {"average_precision": 0.99}})
    clone.push("Ask for more", {})
    before = log(clone)
    (run,) = standin.finished("release.yml")
    assert run["conclusion"] == "failure"
    assert "average_precision" in standin.log(run)
    assert log(clone) == before
    assert standin.ask("GET", "/pulls").json() == []
    assert not (clone.folder.parent / "mlflow.db").exists()
