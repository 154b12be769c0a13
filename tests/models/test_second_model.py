"""A model is a folder: a second, different one needs no change of anything shared."""

import json
import shutil
from pathlib import Path

import httpx
import pytest
from ruamel.yaml import YAML
from trained import commit, loop, run, work_tree

from loop.core.git import Git
from loop.core.paths import ModelPaths
from loop.serving import artifact
from loop.serving.process import Server

DIGITS = Path(__file__).parent / "digits"
ADDED = ("src/models/digits/", "bentos/digits/", "kustomize/models/digits/", "kustomize/overlays/dev/digits/")


@pytest.fixture
def fork(tmp_path, origin, cache, monkeypatch):
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
