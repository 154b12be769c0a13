"""Each model of this repository runs on the sample of its demo, from the source to a monitored answer."""

from pathlib import Path

import pytest
from here import models_of
from samples import begun, rehearsed
from trained import loop

from loop.core.files import read_json
from loop.core.names import public
from loop.core.project import Project
from loop.packaging.process import Server
from loop_demo.traffic import replay
from loop_demo.world import World

MODELS = Path(__file__).parents[2] / "src" / "models"
SAMPLES = sorted(path.parent.name for path in MODELS.glob("*/demo.py") if "\ndef sample(" in path.read_text())
WHOLE = {path.parent.name for path in Path(__file__).parent.glob("*/test_loop.py")}  # have their own tests
EVERY = 5  # every fifth of production's rows is scored


@pytest.fixture
def fork(tmp_path, origin, cache, monkeypatch, model):
    """Return a clone that keeps one of this repository's models."""
    monkeypatch.setenv("LOOP_ENGINE", "none")
    return begun(tmp_path / "clone", model, tmp_path / "store")


@pytest.mark.slow
@pytest.mark.parametrize("model", [model for model in SAMPLES if model not in WHOLE])
def test_a_model_from_its_source_to_its_drift(fork, tmp_path, model):
    """A model is trained, rehearsed and served; the monitor finds drift only after the rows have changed."""
    bento, log = rehearsed(fork, model), tmp_path / "log"
    with models_of(fork):
        world = World(fork, model, tmp_path / "store", calm_days=7, drift_days=7, after_days=0)
    for until, drifts in ((world.drift_from, False), (world.end, True)):
        with Server(bento, log_dir=log) as server:  # has written its whole log once it is stopped
            replay(world, server.url, until, EVERY)
        printed = loop(fork, "monitor", public(model), "--log", str(log), "--no-exit-code")
        drift = read_json(Project(fork, model).build / "monitor" / "report.json")["drift"]
        assert (drift["score"] >= drift["threshold"]) == drifts, printed
