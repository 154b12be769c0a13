"""The release key changes with whatever is packed, and with nothing else."""

import shutil

import pytest
from ruamel.yaml import YAML

from loop.core import params
from loop.core.errors import LoopError
from loop.serving.key import release_key, sources

pytestmark = pytest.mark.sample


@pytest.fixture
def root(tmp_path, repository):
    """The files that a key is made of."""
    for name in ("bentos", "src/loop/serving"):
        shutil.copytree(repository / name, tmp_path / name)
    shutil.copy(repository / "src/loop/__init__.py", tmp_path / "src/loop")
    (tmp_path / "argocd").mkdir()
    registered(tmp_path, "registry.test/team/churn")
    shutil.copy(repository / "params.yaml", tmp_path)
    lock(tmp_path, "0" * 32)
    return tmp_path


def lock(root, md5):
    outs = [{"path": "data/fraud_detector/model", "md5": md5}]
    YAML().dump({"stages": {"train@fraud_detector": {"outs": outs}}}, root / "dvc.lock")


def registered(root, registry):
    fork = {"name": "churn", "url": "https://example.test/team/churn.git", "registry": registry}
    YAML().dump({"data": fork}, root / "argocd/repository.yaml")


def append(path):
    path.write_text(path.read_text() + "#\n")


CHANGES = {
    "model": lambda root, _: lock(root, "1" * 32),
    "service": lambda root, _: append(root / "bentos/fraud_detector/service.py"),
    "lock": lambda root, _: append(root / "bentos/fraud_detector/requirements.lock"),
    "packed code": lambda root, _: append(root / "src/loop/serving/packed/rows.py"),
    "registry": lambda root, _: registered(root, "registry.team.example/churn"),
    "latency target": lambda root, _: params.edit(root, {"models.fraud_detector.sla.p99_ms": 45}),
    "device": lambda root, _: params.edit(root, {"models.fraud_detector.serve": {"device": "cuda"}}),
    "base image": lambda _, patch: patch.setenv("LOOP_BASE_IMAGE", "base@sha256:1"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_is_packed_makes_the_key(root, monkeypatch, change):
    """Another model, service, lock, module, registry, target, device or base image is another release."""
    before = release_key(root, "fraud-detector")
    change(root, monkeypatch)
    assert release_key(root, "fraud-detector") != before


def test_a_device_packs_its_own_lock(root):
    """As requirements.lock, and the other is left out; an edit of the other makes no other release."""
    bento, edits = root / "bentos/fraud_detector", {"models.fraud_detector.serve": {"device": "cuda"}}
    packed = {name: path.name for name, path in sources(root, "fraud-detector") if "requirements" in name}
    assert packed == {"requirements.lock": "requirements.lock"}
    before = release_key(root, "fraud-detector")
    append(bento / "requirements-cuda.lock")
    assert release_key(root, "fraud-detector") == before
    params.edit(root, edits)
    packed = {name: path.name for name, path in sources(root, "fraud-detector") if "requirements" in name}
    assert packed == {"requirements.lock": "requirements-cuda.lock"}
    (bento / "requirements-cuda.lock").unlink()
    with pytest.raises(LoopError, match=r"requirements-cuda\.lock does not exist") as error:
        release_key(root, "fraud-detector")
    assert "requirements-cuda.in" in error.value.fix


def test_nothing_else_makes_the_key(root, tmp_path):
    """Bytecode, the code that builds, and where the clone is make no other release."""
    before = release_key(root, "fraud_detector")
    (root / "bentos/fraud_detector/__pycache__").mkdir(exist_ok=True)
    (root / "bentos/fraud_detector/__pycache__/service.pyc").touch()
    append(root / "src/loop/serving/rehearse.py")
    shutil.copytree(root, tmp_path / "moved", ignore=shutil.ignore_patterns("moved"))
    assert release_key(tmp_path / "moved", "fraud-detector") == release_key(root, "fraud_detector") == before


def test_a_model_that_was_not_trained_has_no_key(root):
    """The error says what to run."""
    (root / "dvc.lock").write_text("stages: {}\n")
    with pytest.raises(LoopError, match=r"\./loop repro"):
        release_key(root, "fraud-detector")
