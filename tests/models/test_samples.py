"""The models of this repository, each on a sample of its own: from the source to a monitored answer."""

import importlib.util
import json
from pathlib import Path

import httpx
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from here import models_of
from trained import commit, loop, only

from loop.core import models, params
from loop.core.files import read_json
from loop.core.names import public
from loop.core.paths import ModelPaths
from loop.packaging.process import Server
from loop.pipeline import split
from loop.runtime import columns
from loop.runtime.columns import Input

SAMPLES = sorted(path.parent.name for path in Path(__file__).parent.glob("*/sample.py"))
BATCH = 50  # rows of a request


def sample(model):
    """The module with a model's sample."""
    path = Path(__file__).parent / model / "sample.py"
    spec = importlib.util.spec_from_file_location(f"sample_of_{model}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def fork(tmp_path, origin, cache, monkeypatch, model):
    """A clone that keeps one of this repository's models, with its sample as the source."""
    monkeypatch.setenv("LOOP_ENGINE", "none")
    root = tmp_path / "clone"
    only(root, model)
    of = sample(model)
    (tmp_path / "sample").mkdir()
    smaller = {"monitor.min_rows": 200, **of.PARAMS}
    params.edit(root, {f"models.{model}.{key}": value for key, value in smaller.items()})
    places = [f"--source={path}" for path in of.write(tmp_path / "sample")]
    loop(root, "pin", public(model), *places)
    commit(root, "Begin")
    return root


def asked(root, model, rows):
    """Bodies of /predict for rows of features."""
    meta = read_json(ModelPaths(root, model).trained / "meta.json")
    inputs = msgspec.convert(meta["inputs"], list[Input])
    key, named = columns.key(inputs), rows.select(meta["features"]).to_pylist()
    if inputs[0].datatype != "FP32":
        named = [{each.name: each.json(row[each.name]) for each in inputs} for row in named]
    bodies = named if key == "features" else [row[key] for row in named]
    return [{key: bodies[at : at + BATCH]} for at in range(0, len(bodies), BATCH)]


@pytest.mark.slow
@pytest.mark.parametrize("model", SAMPLES)
def test_a_model_from_its_source_to_its_drift(fork, tmp_path, model):
    """Trained, gated, registered, rehearsed, served; the monitor is silent until the rows have changed."""
    for step in ("repro", "gate", "register", "bento", "rehearse"):
        if step == "bento":
            commit(fork, "Train it")
        loop(fork, step, public(model))
    paths, of = ModelPaths(fork, model), sample(model)
    table = pq.read_table(paths.features)
    with models_of(fork):
        folder, section = models.load(fork, model), params.load(fork, model)
        test = split.masks(table, folder.roles, section.split)[1]
    table = table.filter(pa.array(test))
    bento = Path(json.loads((paths.build / "bento.json").read_text())["path"])
    for rows, drifts in ((table, False), (of.DRIFT(table), True)):
        log = tmp_path / f"log-{drifts}"
        with Server(bento, log_dir=log) as server, httpx.Client(base_url=server.url, timeout=30) as client:
            for body in (*asked(fork, model, rows), of.ROW):
                answer = client.post("/predict", json=body)
                assert answer.status_code == httpx.codes.OK, answer.text
        printed = loop(fork, "monitor", public(model), "--log", str(log), "--no-exit-code")
        drift = read_json(paths.build / "monitor" / "report.json")["drift"]
        assert (drift["score"] >= drift["threshold"]) == drifts, printed
