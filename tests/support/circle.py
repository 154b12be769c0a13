"""One turn of the whole loop at the stand-in: a push, its release, drift, a retraining, and a canary's steps.

The caller decides whether workflows run on this host or in containers. Either way they share `folder` and can
read `images`.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import mlflow
import numpy as np
from standin import Clone, StandIn
from trained import MODEL, OTHERWISE, change, copy, loop

from loop.core import models
from loop.core.dvc import Lock
from loop.core.project import Project
from loop.core.release_state import State, folder, parse
from loop_demo.world import World

EVERY = 10  # of this many transactions, one gets a prediction


@dataclass(frozen=True)
class Circle:
    """A repository whose jobs have no container engine or registry; `folder` has their logs and MLflow."""

    standin: StandIn
    clone: Clone
    folder: Path
    images: Path  # where jobs without an engine put a release's image

    @staticmethod
    def variables(folder: Path) -> list[str]:
        """Return the stand-in's options that point jobs at production's log and at the tracking server."""
        return [
            f"--var=PREDICTION_LOG={folder}/log",
            f"--var=MLFLOW_TRACKING_URI=sqlite:///{folder}/mlflow.db",
        ]


def begun(standin: StandIn, trained_once: Path, folder: Path) -> Clone:
    """Return a person's clone of a repository with a trained model, whose production logs to a store."""
    clone = Clone(copy(trained_once, folder))
    clone.git("remote", "set-url", "origin", standin.clone_url("person"))
    change(clone.folder, monitor__store=str(folder / "store"))
    with (clone.folder / ".dvc" / "config").open("a") as config:
        config.write(
            f"[core]\n    remote = storage\n['remote \"storage\"']\n    url = {folder / 'storage'}\n"
        )
    clone.commit("Log production", {})
    clone.git("push", "-q", standin.clone_url("bot"), "HEAD:main")
    return clone


def turn(circle: Circle) -> None:
    """Run the loop once, and check what each workflow leaves: commits, pull requests, registered models."""
    change(circle.clone.folder, **OTHERWISE)
    loop(circle.clone.folder, "repro", MODEL)
    circle.clone.push("Train 30 trees", {})
    green(circle.standin, "release.yml")
    green(circle.standin, "ci.yml")
    released(circle)
    again(circle.standin, circle.clone)
    drifted(circle)
    steered(circle.standin, circle.clone)


def green(standin: StandIn, workflow: str, number: int = 1) -> None:
    """Wait until a workflow has `number` runs, and check that all have succeeded."""
    for run in standin.finished(workflow, number):
        assert run["conclusion"] == "success", standin.log(run)[-8000:]


def log(clone: Clone, *words: str) -> list[str]:
    """Return the messages of main's commits that contain all words, newest first."""
    clone.git("fetch", "-q", "origin", "main")
    found = clone.git("log", "-z", "--format=%B", "origin/main").stdout.split("\0")
    return [message for message in found if all(word in message for word in words)]


def state(clone: Clone, environment: str) -> State:
    clone.git("fetch", "-q", "origin", "main")
    path = f"{folder(environment, MODEL)}/release.yaml"
    return parse(clone.git("show", f"origin/main:{path}").stdout, path)


def production(clone: Clone, key: str, world: World, into: Path) -> None:
    """Log predictions for five drifted weeks, as the server would."""
    score = models.load(clone.folder, MODEL).scorer.load(Project(clone.folder, MODEL).trained)
    lines = []
    while rows := world.take(5000, world.retrain_at):
        scored = rows[::EVERY]
        scores = score(np.array([row["features"] for row in scored]))
        lines += [
            {
                "time": "2018-07-20T00:00:00Z",
                "model": MODEL,
                "version": key,
                "score": float(one),
                "class": int(one > 0.5),
                **row,
            }
            for row, one in zip(scored, scores, strict=True)
        ]
    into.mkdir()
    (into / "pod-1.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def released(circle: Circle) -> None:
    """Check a release: commits for dev and staging, a pull request for production, an image in the cache."""
    standin, clone = circle.standin, circle.clone
    key = state(clone, "dev").stable.key
    assert state(clone, "staging").stable.key == key
    assert state(clone, "production").stable is None
    assert len(log(clone, "Action: release")) == 2
    (pull,) = standin.ask("GET", "/pulls").json()
    assert key in pull["title"]
    assert "### Gate: promote" in pull["body"]
    digest = state(clone, "dev").stable.image.partition("@sha256:")[2]
    assert (circle.images / MODEL / digest / "blobs" / "sha256" / digest).is_file()
    client = mlflow.MlflowClient(f"sqlite:///{circle.folder}/mlflow.db")
    (version,) = client.search_model_versions(f"name='{MODEL}'")
    assert version.tags["model_md5"] == state(clone, "dev").stable.model_md5


def again(standin: StandIn, clone: Clone) -> None:
    """Start the release of a finished model again: it builds and commits nothing."""
    (pull,) = standin.ask("GET", "/pulls").json()
    standin.ask("PUT", f"/pulls/{pull['number']}/merge", body={"merge_method": "squash"})
    before = log(clone)
    standin.as_("person").dispatch("release.yml", {"model": MODEL, "reason": "once more"})
    green(standin, "release.yml", 2)
    assert log(clone) == before
    assert standin.ask("GET", "/pulls").json() == []


def drifted(circle: Circle) -> None:
    """Check that drift starts `train`, which names its reason, uploads the model and proposes a canary."""
    standin, clone = circle.standin, circle.clone
    store, package = circle.folder / "store", "card_fraud"
    world = World(clone.folder, package, store, calm_days=0, drift_days=35, after_days=0)
    production(clone, state(clone, "production").stable.key, world, circle.folder / "log")
    standin.as_("person").dispatch("drift.yml", {"model": MODEL})
    green(standin, "drift.yml")
    green(standin, "train.yml")
    (retraining,) = log(clone, "Action: retrain")
    assert "\nWhy: drift " in retraining
    assert "\nWhy: drift " in log(clone, "Action: release", "Environment: dev")[0]
    md5 = Lock.parse(clone.git("show", "origin/main:dvc.lock").stdout).model_md5(MODEL)
    assert md5 != state(clone, "production").stable.model_md5
    assert (circle.folder / "storage" / "files" / "md5" / md5[:2] / md5[2:]).is_file()
    (pull,) = standin.ask("GET", "/pulls").json()
    assert "canary" in pull["title"]


def steered(standin: StandIn, clone: Clone) -> None:
    """Merge the canary; check that it is promoted and rolled back by one commit each, with a reason."""
    (pull,) = standin.ask("GET", "/pulls").json()
    standin.ask("PUT", f"/pulls/{pull['number']}/merge", body={"merge_method": "squash"})
    before = state(clone, "production")
    place = {"model": MODEL, "environment": "production", "key": before.canary.key}
    standin.as_("bot").dispatch("promote.yml", {**place, "from": "canary-0", "reason": "sound"})
    green(standin, "promote.yml")
    assert state(clone, "production").canary.weight == 10
    assert len(log(clone, "Action: promote", "Why: sound")) == 1
    standin.as_("bot").dispatch("rollback.yml", {**place, "why": "errors"})
    green(standin, "rollback.yml")
    after = state(clone, "production")
    assert (after.canary, after.stable) == (None, before.stable)
    assert after.why_barred(before.canary.key) == "errors"
