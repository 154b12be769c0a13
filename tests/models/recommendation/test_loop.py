"""A model with time and users goes through the whole loop on the sample of its demo, command by command."""

from pathlib import Path

import httpx
import pytest
from here import models_of
from releases import Pulls
from samples import begun, rehearsed
from trained import loop

from loop.core import params, release_state
from loop.core.errors import Exit
from loop.core.files import read_json
from loop.core.git import Git
from loop.core.project import Project
from loop.delivery import candidate
from loop.delivery.release import propose
from loop.packaging.process import Server
from loop_demo.traffic import replay
from loop_demo.world import World

MODEL = "recommendation"
PRODUCTION = ("--environment", "production")
STEPS = ("canary-0", "canary-10", "canary-50", "canary-100", "handover", "return")
REQUESTS = 200  # to each track
SCORED = 20  # every 20th of production's rows is scored


@pytest.fixture
def fork(tmp_path, origin, cache, monkeypatch):
    """Return a clone that keeps the model."""
    monkeypatch.setenv("LOOP_ENGINE", "none")
    return begun(tmp_path / "clone", MODEL, tmp_path / "store")


def released(fork: Path) -> release_state.State:
    """Propose the built release to production, merge it as a reviewer does, and return production's state."""
    loop(fork, "image", MODEL)
    git = Git(fork)
    built = candidate.read(Project(fork, MODEL), watched=False)  # this test calls the monitor itself
    done, _ = propose(git, Pulls(git), built, "production")
    git.run("push", "--quiet", "origin", f"{done.commit}:main")
    git.run("reset", "--quiet", "--keep", str(done.commit))
    return done.after


def judged(fork: Path, stable: Server, canary: Server) -> str:
    """Return what the judge prints after one check."""
    return loop(fork, "judge", MODEL, f"--stable={stable.url}", f"--canary={canary.url}", "--once")


def promoted(fork: Path, key: str, *steps: str) -> None:
    for step in steps:
        loop(fork, "promote", MODEL, *PRODUCTION, "--key", key, "--from", step)


@pytest.mark.slow
def test_the_whole_loop(fork: Path, tmp_path: Path) -> None:
    """A release is replaced through a canary, drift is found, and the gate promotes the retrained model."""
    log, git = tmp_path / "log", Git(fork)
    first = rehearsed(fork, MODEL)
    assert released(fork).canary is None
    with models_of(fork):
        world = World(fork, MODEL, tmp_path / "store", calm_days=7, drift_days=7, after_days=0)
    params.edit(fork, {f"models.{MODEL}.{key}": value for key, value in world.folder.demo.BETTER.items()})
    better = rehearsed(fork, MODEL)
    key = released(fork).canary.key
    with Server(first) as stable, Server(better) as canary:
        assert "promote: ready" in judged(fork, stable, canary)
        promoted(fork, key, STEPS[0])
        assert "wait" in judged(fork, stable, canary)
        asked(world, stable, canary)
        assert f"promote: {REQUESTS} requests, 0 failed" in judged(fork, stable, canary)
    promoted(fork, key, *STEPS[1:])
    git.run("pull", "--quiet", "origin", "main")
    path = f"{release_state.folder('production', MODEL)}/release.yaml"
    now = release_state.parse((fork / path).read_text(), path)
    assert (now.stable.key, now.canary) == (key, None)
    for until, code in ((world.drift_from, Exit.OK), (world.retrain_at, Exit.DRIFT)):
        with Server(better, log_dir=log) as server:  # has written its whole log once it is stopped
            replay(world, server.url, until, SCORED)
        printed = loop(fork, "monitor", MODEL, "--log", str(log), code=code)
    loop(fork, "retrain", MODEL, "--until", world.retrain_at.isoformat(), "--reason", printed.splitlines()[0])
    for step in ("repro", "gate"):
        loop(fork, step, MODEL)
    assert read_json(Project(fork, MODEL).build / "gate.json")["verdict"] == "promote"


def asked(world: World, *tracks: Server) -> None:
    """Send the same rows to each track, one row a request."""
    bodies = world.take(REQUESTS)
    for track in tracks:
        with httpx.Client(base_url=track.url, timeout=30) as client:
            for body in bodies:
                client.post("/predict", json=body).raise_for_status()
