"""What is laid out for a bento, before BentoML packs it."""

import shutil

import pytest
from ruamel.yaml import YAML

from loop.candidate.champion import md5
from loop.core.paths import ModelPaths
from loop.serving.bento import stage

MODEL = "fraud-detector"


@pytest.fixture
def root(tmp_path, repository):
    """A model that was trained, with its reference, as dvc.lock records both."""
    for name in ("bentos", "src/loop/serving"):
        shutil.copytree(repository / name, tmp_path / name)
    shutil.copy(repository / "src/loop/__init__.py", tmp_path / "src/loop")
    paths = ModelPaths(tmp_path, MODEL)
    paths.trained.mkdir(parents=True)
    (paths.trained / "meta.json").write_text("{}")
    paths.reference.write_bytes(b"rows")
    outs = [
        {"path": str(path.relative_to(tmp_path)), "md5": md5(path)}
        for path in (paths.trained, paths.reference)
    ]
    YAML().dump({"stages": {"train@fraud_detector": {"outs": outs}}}, tmp_path / "dvc.lock")
    return tmp_path


def test_the_recorded_reference_is_packed(root, tmp_path):
    """The rows that drift is measured against travel beside the model."""
    stage(root, MODEL, "0123456789ab", tmp_path / "context")
    assert (tmp_path / "context" / "reference.parquet").read_bytes() == b"rows"
    assert (tmp_path / "context" / "model" / "meta.json").is_file()


@pytest.mark.parametrize("what", ["another", "missing", "unrecorded"])
def test_no_other_reference_is_packed(root, tmp_path, what):
    """One that another training left, or that no lock records, is not this model's."""
    reference = ModelPaths(root, MODEL).reference
    match what:
        case "another":
            reference.write_bytes(b"others")
        case "missing":
            reference.unlink()
        case _:
            (root / "dvc.lock").write_text("stages: {}\n")
    stage(root, MODEL, "0123456789ab", tmp_path / "context")
    assert not (tmp_path / "context" / "reference.parquet").exists()
