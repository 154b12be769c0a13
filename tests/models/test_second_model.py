"""A model is a folder: a second, different one needs no change of anything shared."""

import json
import re
import shutil
from pathlib import Path

import httpx
import pytest
from here import dvc_here  # noqa: F401 - a fixture
from ruamel.yaml import YAML
from trained import commit, loop, run, work_tree

from loop import diagnosis
from loop.core import params
from loop.core.git import Git
from loop.core.paths import ModelPaths
from loop.serving import artifact
from loop.serving.process import Server

DIGITS = Path(__file__).parent / "digits"
ADDED = ("src/models/digits/", "bentos/digits/", "kustomize/models/digits/", "kustomize/overlays/dev/digits/")


@pytest.fixture
def fork(tmp_path, origin, cache, dvc_here, monkeypatch):  # noqa: F811
    """A clone of this work tree with the digits' folders, and their section in params.yaml."""
    monkeypatch.setenv("LOOP_ENGINE", "none")  # what is served below is the bento as an artifact
    root = tmp_path / "clone"
    work_tree(root)
    commit(root, "Begin")
    section = shutil.ignore_patterns("params.yaml", "__pycache__")
    shutil.copytree(DIGITS, root, dirs_exist_ok=True, ignore=section)
    shutil.copy(root / "bentos/fraud_detector/requirements.lock", root / "bentos/digits")
    yaml = YAML()
    params = yaml.load((root / "params.yaml").read_text())
    params["models"] |= yaml.load((DIGITS / "params.yaml").read_text())
    yaml.dump(params, root / "params.yaml")
    return root


@pytest.mark.slow
def test_a_second_model_goes_from_repro_to_a_served_answer(fork, tmp_path):
    """scikit-learn's digits: trained, gated, registered, released to dev by commit, rendered, served."""
    for step in ("repro", "gate", "register", "bento", "rehearse", "image"):
        if step == "bento":
            commit(fork, "Add digits")
        loop(fork, step, "digits")
    loop(fork, "monitor-image")
    loop(fork, "release", "digits", "--environment", "dev")
    assert changed_files(fork) <= {"params.yaml", "dvc.lock"}

    run("git", "pull", "--quiet", cwd=fork)
    manifests = list(YAML(typ="safe").load_all(loop(fork, "render", "digits", "--environment", "dev")))
    loop(fork, "render", "digits", "--environment", "dev", "--check")
    image = json.loads((ModelPaths(fork, "digits").build / "image.json").read_text())
    deployment = next(manifest for manifest in manifests if manifest["kind"] == "Deployment")
    assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == image["image"]

    bento = artifact.unpack(Path(image["layout"]), image["digest"], tmp_path / "unpacked")
    with Server(bento) as server:
        row = [0.0] * 64
        answer = httpx.post(f"{server.url}/predict", json={"features": row}).json()
    assert len(answer["score"]) == 10
    assert sum(answer["score"]) == pytest.approx(1)


def changed_files(root):
    """What differs from the first commit, but for the model's own folders."""
    git = Git(root)
    begin = git.run("log", "--format=%H", "--grep=^Begin$")
    names = git.run("diff", "--name-only", begin, git.fetch()).splitlines()
    return {name for name in names if not name.startswith((*ADDED, "data/digits/", "data/.gitignore"))}


@pytest.mark.contract
def test_a_copied_model_that_keeps_its_old_name_is_told(tmp_path):
    """The folders copied by hand, the doctor names each file that still says the first model's name."""
    work_tree(tmp_path)
    for place in ("src/models/{}", "bentos/{}", "kustomize/models/{}", "kustomize/overlays/dev/{}"):
        name, copied = ("fraud_detector", "churn_eu") if place[0] in "sb" else ("fraud-detector", "churn-eu")
        shutil.copytree(tmp_path / place.format(name), tmp_path / place.format(copied))
    params.edit(tmp_path, {"models.churn_eu": params.read(tmp_path)["fraud_detector"]})
    first, copy = diagnosis._models(tmp_path)
    assert (first.state, copy.state) == ("ok", "bad")
    assert copy.found.split("; ") == [
        "bentos/churn_eu/service.py says fraud_detector, should be churn_eu",
        "kustomize/models/churn-eu/kustomization.yaml says fraud-detector, should be churn-eu",
        "kustomize/overlays/dev/churn-eu/kustomization.yaml says fraud-detector-dev, should be churn-eu-dev",
    ]


@pytest.mark.contract
def test_a_model_is_read_from_its_own_folder(repository):
    """No model imports by an absolute name: a copy of its folder would go on with the first one's columns."""
    for path in (repository / "src" / "models").rglob("*.py"):
        assert not re.search(r"(?m)^(from|import) models\b", path.read_text()), path
