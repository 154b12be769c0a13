"""A model is a folder: a second, different model needs no change of shared files."""

import json
import re
import shutil
from base64 import b64encode
from pathlib import Path

import httpx
import jsonschema
import mlflow
import numpy as np
import pyarrow.parquet as pq
import pytest
from here import dvc_here  # noqa: F401 - a fixture
from releases import track
from trained import add, commit, loop, work_tree

from loop.candidate import register
from loop.core import params, release_state
from loop.core.project import Project
from loop.fork import doctor
from loop.packaging import artifact
from loop.packaging.process import Server


@pytest.fixture
def fork(tmp_path, origin, cache, dvc_here, monkeypatch, model):  # noqa: F811, PLR0917 - fixtures
    """Return a clone of this work tree with another model's folders, and its section in params.yaml."""
    monkeypatch.setenv("LOOP_ENGINE", "none")  # so the image is the bento as an artifact
    root = tmp_path / "clone"
    work_tree(root)
    commit(root, "Begin")
    add(root, model)
    return root


# For each model: a row, and its answer besides `model_version`. The image is blank.
KINDS = {
    "reviews": ({"text": "The soup was delicious and fresh"}, {"score": float, "class": "positive"}),
    "digits": ({"image": b64encode(b"P5 8 8 16\n" + bytes(64)).decode()}, {"score": list, "class": int}),
    "visits": ({"features": {"orders": 3, "days_ago": None}}, {"score": list, "class": str}),
    "picks": ({"features": {"history": [6, 12], "film": 18}}, {"score": float}),
    "rents": (
        {"features": {"district": "hill", "area": 71.5, "rooms": 3, "balcony": True}},
        {"score": float},
    ),
    "phrases": ({"text": "tide and boat"}, {"embedding": list}),
}


def trained(fork, model):
    """Run each step from the source to the image, and return the image's record."""
    for step in ("repro", "gate", "register", "bento", "rehearse", "image"):
        if step == "bento":
            commit(fork, "Add it")
        loop(fork, step, model)
    return json.loads((Project(fork, model).build / "image.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("model", KINDS)
def test_a_model_of_any_kind_is_folders(fork, tmp_path, model):
    """A model of texts, images, classes, rankings, numbers with gaps or embeddings needs only its folders.

    Each is trained, gated, registered, rehearsed and served. MLflow's model scores like the bento, and the
    log's profile has as many numbers as the reference's.
    """
    image = trained(fork, model)
    artifact.unpack(Path(image["layout"]), image["digest"], bento := tmp_path / "unpacked")
    (row, answer), (key,) = KINDS[model], KINDS[model][0]
    example = json.loads((Project(fork, model).trained / "meta.json").read_text())["example"]
    example = example.get(key, example) if isinstance(example, dict) else example
    with Server(bento, log_dir=tmp_path / "log") as server:
        one = httpx.post(f"{server.url}/predict", json=row).json()
        many = httpx.post(f"{server.url}/predict", json={key: [row[key], row[key]]}).json()
        answered = httpx.post(f"{server.url}/predict", json={key: example}).json()
        document = httpx.get(f"{server.url}/openapi.json").json()
        metrics = httpx.get(f"{server.url}/metrics").text
        if model == "digits":
            refused = httpx.post(f"{server.url}/predict", json={"image": b64encode(b"a cat").decode()})
            assert (refused.status_code, "no binary PGM" in refused.json()["error"]) == (422, True)
    assert one.keys() == {"model_version", *answer}
    for name, wanted in answer.items():
        assert isinstance(one[name], wanted) if isinstance(wanted, type) else one[name] == wanted
    jsonschema.validate(many, {"$ref": "#/components/schemas/Answer", "components": document["components"]})
    told = "embedding" if model == "phrases" else "score"
    assert len(many[told]) == 2
    assert f'model_prediction_score_count{{model="{model}"' in metrics
    [log] = (tmp_path / "log").glob("*.jsonl")
    line = json.loads(log.read_text().splitlines()[0])
    reference = pq.read_schema(Project(fork, model).reference).names
    assert len(line["features"]) == len(reference) - 2  # all but `score` and the label
    mlflow.set_tracking_uri(f"sqlite:///{fork}/mlflow.db")
    entered = mlflow.pyfunc.load_model(f"models:/{model}@challenger")
    same = entered.predict(register.example(Project(fork, model).trained))
    assert same == pytest.approx(np.array([answered[told]]))


def test_a_new_model_is_a_copy_under_its_own_name(tmp_path):
    """The doctor finds a copied model complete, every check passes, and no file names the first model.

    Floors, targets and slices are left to its team, and the doctor says that no floor is set.
    """
    work_tree(tmp_path)
    before = params.read(tmp_path)
    printed = loop(tmp_path, "new", "churn-eu", "--like", "card-fraud")
    assert "kustomize/overlays/production/churn-eu" in printed
    first, copy = doctor.models_of(tmp_path)
    assert (first.state, copy.state, copy.fix) == (
        "ok",
        "default",
        "set models.churn_eu.gate.floors in params.yaml",
    )
    loop(tmp_path, "render", "--check")
    written = [path for place in ("bentos/churn_eu", "kustomize") for path in (tmp_path / place).rglob("*")]
    mine = [path for path in written if path.is_file() and "churn" in str(path.relative_to(tmp_path))]
    assert mine
    others = "fraud.detector|CardFraud|card transactions"
    assert not [path for path in mine if re.search(others, path.read_text())]
    section = params.read(tmp_path)["churn_eu"]
    expected = before["card_fraud"] | {"register": {"experiment": "churn-eu"}}
    for part, of_production in (("ingest", "logged"), ("monitor", "store")):
        expected.get(part, {}).pop(of_production, None)
    for part, numbers in ((expected, "sla"), (expected["gate"], "floors"), (expected["evaluate"], "slices")):
        part[numbers] = type(part[numbers])()
    assert section == expected
    assert "ChurnEu" in (tmp_path / "bentos/churn_eu/service.py").read_text()
    assert not (tmp_path / "src/models/churn_eu/__init__.py").exists()  # its text is about the first model
    for wrong, said in {
        ("churn-eu", "card-fraud"): "already",
        ("churn-us", "frauds"): "picks, rents, reviews, visits\n  fix: give --like one of these",
        ("Churn", "card-fraud"): "is not valid",
    }.items():
        assert said in loop(tmp_path, "new", wrong[0], "--like", wrong[1], code=2)
    assert "rm -r" not in loop(tmp_path, "new", "card-fraud", "--like", "churn-eu", code=2)


def test_a_dropped_model_leaves_no_trace(tmp_path):
    """Creating and dropping a model leaves every file as it was; a model that is served is not dropped."""
    work_tree(tmp_path)
    lock = tmp_path / "dvc.lock"
    lock.write_text("schema: '2.0'\nstages:\n  train@card_fraud:\n    cmd: x\n")

    def files():
        return {
            path: path.read_bytes()
            for path in tmp_path.rglob("*")
            if path.is_file() and ".git/" not in str(path)
        }

    before = files()
    (tmp_path / "docs/models/churn.md").touch()
    readme = tmp_path / "README.md"
    row = "| `churn` | who leaves | [card](docs/models/churn.md) |\n"
    readme.write_text(readme.read_text().replace("\n|---|---|---|\n", f"\n|---|---|---|\n{row}", 1))
    assert row in readme.read_text()
    loop(tmp_path, "new", "churn", "--like", "card-fraud")
    lock.write_text(lock.read_text() + "  train@churn:\n    cmd: y\n")
    (tmp_path / "data/churn").mkdir(parents=True)
    (tmp_path / "data/churn/metrics.json").write_text("{}")
    (tmp_path / "tests/models/churn").mkdir()
    (tmp_path / "tests/models/churn/test_features.py").touch()
    serving = tmp_path / "kustomize/overlays/dev/churn/release/release.yaml"
    nothing = serving.read_text()
    for path, text in release_state.files(
        release_state.State(stable=track("a" * 12, 100)), "dev", "churn"
    ).items():
        (tmp_path / path).write_text(text)
    assert "dev serves churn aaaaaaaaaaaa" in loop(tmp_path, "init", "--models", "card-fraud", code=2)
    serving.write_text(nothing)
    loop(tmp_path, "init", "--models", "card-fraud")
    assert files() == before
    assert "no model frauds" in loop(tmp_path, "init", "--models", "frauds", code=2)


def test_a_name_that_is_a_column_too_stays_a_column(tmp_path):
    """If a model is named like its label, a copy of the model keeps the name of the column."""
    work_tree(tmp_path)
    loop(tmp_path, "new", "churn", "--like", "card-fraud")
    schema = tmp_path / "src/models/churn/schema.py"
    schema.write_text(schema.read_text() + '\nCHURN = "churn"\nimport models.churn.source\n')
    loop(tmp_path, "new", "churn-eu", "--like", "churn")
    assert [each.found for each in doctor.models_of(tmp_path) if each.state == "bad"] == []
    copy = (tmp_path / "src/models/churn_eu/schema.py").read_text()
    assert 'CHURN = "churn"\nimport models.churn_eu.source' in copy


def test_a_copied_model_that_keeps_its_old_name_is_told(tmp_path):
    """If the folders are copied by hand, the doctor names each file that still has the first model's name."""
    work_tree(tmp_path)
    for place in ("src/models/{}", "bentos/{}", "kustomize/models/{}", "kustomize/overlays/dev/{}"):
        name, copied = ("card_fraud", "churn_eu") if place[0] in "sb" else ("card-fraud", "churn-eu")
        shutil.copytree(tmp_path / place.format(name), tmp_path / place.format(copied))
    params.edit(tmp_path, {"models.churn_eu": params.read(tmp_path)["card_fraud"]})
    first, copy = doctor.models_of(tmp_path)
    assert (first.state, copy.state) == ("ok", "bad")
    assert copy.found.split("; ") == [
        "bentos/churn_eu/service.py has card_fraud, but should have churn_eu",
        "kustomize/models/churn-eu/kustomization.yaml has card-fraud, but should have churn-eu",
        "kustomize/overlays/dev/churn-eu/kustomization.yaml has card-fraud-dev, but should have churn-eu-dev",
    ]


@pytest.mark.contract
def test_a_model_is_read_from_its_own_folder(repository):
    """No model imports by an absolute name, because a copy would then use the original's columns."""
    for path in (repository / "src" / "models").rglob("*.py"):
        assert not re.search(r"(?m)^(from|import) models\b", path.read_text()), path
