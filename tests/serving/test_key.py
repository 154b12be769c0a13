"""The release key changes with everything that changes how a release serves, and with nothing else."""

import shutil

import pytest
from ruamel.yaml import YAML

from loop.core import params
from loop.core.errors import LoopError
from loop.core.project import Project
from loop.packaging.key import release_key, sources

pytestmark = pytest.mark.sample


@pytest.fixture
def root(tmp_path, template):
    """The files from which a release key is computed."""
    for name in ("bentos", "src/loop/runtime", "src/loop/packaging"):
        shutil.copytree(template / name, tmp_path / name)
    shutil.copy(template / "src/loop/__init__.py", tmp_path / "src/loop")
    (tmp_path / "argocd").mkdir()
    registered(tmp_path, "registry.test/team/churn")
    shutil.copy(template / "params.yaml", tmp_path)
    lock(tmp_path, "0" * 32)
    (tmp_path / "bentos/card_fraud/requirements-cuda.lock").touch()
    return tmp_path


def lock(root, md5):
    outs = [{"path": "data/card_fraud/model", "md5": md5}]
    YAML().dump({"stages": {"train@card_fraud": {"outs": outs}}}, root / "dvc.lock")


def registered(root, registry):
    fork = {"name": "churn", "url": "https://example.test/team/churn.git", "registry": registry}
    YAML().dump({"data": fork}, root / "argocd/repository.yaml")


def append(path):
    path.write_text(path.read_text() + "#\n")


CHANGES = {
    "model": lambda root, _: lock(root, "1" * 32),
    "service": lambda root, _: append(root / "bentos/card_fraud/service.py"),
    "lock": lambda root, _: append(root / "bentos/card_fraud/requirements.lock"),
    "packed code": lambda root, _: append(root / "src/loop/runtime/rows.py"),
    "registry": lambda root, _: registered(root, "registry.team.example/churn"),
    "latency target": lambda root, _: params.edit(root, {"models.card_fraud.sla.p99_ms": 45}),
    "device": lambda root, _: params.edit(root, {"models.card_fraud.serve": {"device": "cuda"}}),
    "base image": lambda _, patch: patch.setenv("LOOP_BASE_IMAGE", "base@sha256:1"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_is_packed_makes_the_key(root, monkeypatch, change):
    """A new model, service, lock, module, registry, target, device or base image gives a new key."""
    before = release_key(Project(root, "card-fraud"))
    change(root, monkeypatch)
    assert release_key(Project(root, "card-fraud")) != before


def test_a_device_packs_its_own_lock(root):
    """A bento has its device's lock, as requirements.lock; the other lock does not change the key."""
    bento, edits = root / "bentos/card_fraud", {"models.card_fraud.serve": {"device": "cuda"}}
    locks = {"cpu": "requirements.lock", "cuda": "requirements-cuda.lock"}
    for device, lock in locks.items():
        packed = {
            name: path.name
            for name, path in sources(Project(root, "card-fraud"), device)
            if path.match("req*")
        }
        assert packed == {"requirements.lock": lock}
    before = release_key(Project(root, "card-fraud"))
    append(bento / "requirements-cuda.lock")
    assert release_key(Project(root, "card-fraud")) == before
    params.edit(root, edits)
    (bento / "requirements-cuda.lock").unlink()
    with pytest.raises(LoopError, match=r"requirements-cuda\.lock does not exist") as error:
        release_key(Project(root, "card-fraud"))
    assert "requirements-cuda.in" in error.value.fix


def test_nothing_else_makes_the_key(root, tmp_path):
    """Bytecode, the code that builds bentos, and the clone's path do not change the key."""
    before = release_key(Project(root, "card_fraud"))
    (root / "bentos/card_fraud/__pycache__").mkdir(exist_ok=True)
    (root / "bentos/card_fraud/__pycache__/service.pyc").touch()
    append(root / "src/loop/packaging/rehearse.py")
    shutil.copytree(root, tmp_path / "moved", ignore=shutil.ignore_patterns("moved"))
    assert (
        release_key(Project(tmp_path / "moved", "card-fraud"))
        == release_key(Project(root, "card_fraud"))
        == before
    )


def test_a_model_that_was_not_trained_has_no_key(root):
    """The error says what to run."""
    (root / "dvc.lock").write_text("stages: {}\n")
    with pytest.raises(LoopError, match=r"\./loop repro"):
        release_key(Project(root, "card-fraud"))
