"""The files from which BentoML builds a bento, and when a stored bento is trusted."""

import shutil

import pytest
from ruamel.yaml import YAML

from loop.candidate.champion import md5
from loop.core import signing
from loop.core.errors import LoopError
from loop.core.files import write_text
from loop.core.paths import cache
from loop.core.project import Project
from loop.packaging import bento
from loop.packaging.bento import stage

MODEL = "card-fraud"


@pytest.fixture
def root(tmp_path, template):
    """A trained model and its reference, both as dvc.lock records them."""
    for name in ("bentos", "src/loop/packaging"):
        shutil.copytree(template / name, tmp_path / name)
    shutil.copy(template / "src/loop/__init__.py", tmp_path / "src/loop")
    shutil.copy(template / "params.yaml", tmp_path)
    paths = Project(tmp_path, MODEL)
    paths.trained.mkdir(parents=True)
    (paths.trained / "meta.json").write_text("{}")
    paths.reference.write_bytes(b"rows")
    outs = [
        {"path": str(path.relative_to(tmp_path)), "md5": md5(path)}
        for path in (paths.trained, paths.reference)
    ]
    YAML().dump({"stages": {"train@card_fraud": {"outs": outs}}}, tmp_path / "dvc.lock")
    return tmp_path


def test_the_recorded_reference_is_packed(root, tmp_path):
    """The reference, against which drift is measured, is put beside the model."""
    stage(Project(root, MODEL), "0123456789ab", tmp_path / "context")
    assert (tmp_path / "context" / "reference.parquet").read_bytes() == b"rows"
    assert (tmp_path / "context" / "model" / "meta.json").is_file()


@pytest.mark.parametrize("what", ["another", "missing", "unrecorded"])
def test_no_other_reference_is_packed(root, tmp_path, what):
    """A reference that another training left, or that dvc.lock does not record, is not packed."""
    reference = Project(root, MODEL).reference
    match what:
        case "another":
            reference.write_bytes(b"others")
        case "missing":
            reference.unlink()
        case _:
            (root / "dvc.lock").write_text("stages: {}\n")
    stage(Project(root, MODEL), "0123456789ab", tmp_path / "context")
    assert not (tmp_path / "context" / "reference.parquet").exists()


@pytest.fixture
def stored(root, monkeypatch):
    """The path of a bento in the store, and the list of builds; the build is a fake, without BentoML."""
    monkeypatch.setenv("LOOP_CACHE", str(root / "cache"))
    monkeypatch.setattr(bento, "release_key", lambda *_, **__: "0123456789ab")
    builds = []

    def build(*given):
        builds.append(given)
        write_text(given[-1] / "bento.yaml", "name: card_fraud\n")
        write_text(given[-1] / "env/docker/entrypoint.sh", "#!/bin/sh\n")

    monkeypatch.setattr(bento, "_build", build)
    return bento.build(Project(root, MODEL)).path, builds


def test_a_bento_of_an_earlier_model_is_not_taken(root, stored):
    """The bento built last counts only as long as dvc.lock records its model."""
    assert bento.built(Project(root, MODEL)).path == stored[0]
    lock, before, now = root / "dvc.lock", Project(root, MODEL).model_md5, f"{'0' * 32}.dir"
    lock.write_text(lock.read_text().replace(before, now))
    with pytest.raises(LoopError, match=f"is about model {before}, but dvc.lock records {now}"):
        bento.built(Project(root, MODEL))


def copied(path):
    """Replace this bento's files and record by those of another bento in the store."""
    write_text(path.with_name("ba9876543210") / "bento.yaml", "name: other\n")
    bento.write_json(
        bento._seal(path), signing.signed(bento._told(path.with_name("ba9876543210")), bento.SEAL)
    )
    write_text(path / "bento.yaml", "name: other\n")
    (path / "env/docker/entrypoint.sh").unlink()


def forged(path):
    """Change the bento, and sign its new record with another machine's key."""
    (cache() / "keys/release.key").rename(cache() / "keys/mine.key")
    write_text(path / "bento.yaml", "name: other\n")
    bento.write_json(bento._seal(path), signing.signed(bento._told(path), bento.SEAL))
    (cache() / "keys/mine.key").replace(cache() / "keys/release.key")


SPOILT = {
    "a changed file": lambda path: write_text(path / "env/docker/entrypoint.sh", "#!/bin/sh\nsh -c x\n"),
    "a file that may be run": lambda path: (path / "bento.yaml").chmod(0o755),
    "a file more": lambda path: write_text(path / "src/__pycache__/asgi.cpython-311.pyc", "x"),
    "a file fewer": lambda path: (path / "env/docker/entrypoint.sh").unlink(),
    "a link": lambda path: (path / "src").symlink_to("/proc/self"),
    "a link in its place": lambda path: path.symlink_to(path.rename(path.with_name("elsewhere"))),
    "no record": lambda path: bento._seal(path).unlink(),
    "another bento's record": copied,
    "a record of another machine": forged,
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_a_stored_bento_that_was_changed_is_made_again(root, stored, spoil, capsys):
    """Others may write to the cache that holds the store, so each file is checked against a signed record."""
    path, builds = stored
    assert bento.build(Project(root, MODEL)) == bento.built(Project(root, MODEL))
    assert len(builds) == 1
    spoil(path)
    with pytest.raises(LoopError, match=r"fix: \./loop bento"):
        bento.built(Project(root, MODEL))
    assert bento.build(Project(root, MODEL)).path == path
    assert len(builds) == 2
    assert "is made again" in capsys.readouterr().err
    assert (path / "bento.yaml").read_text() == "name: card_fraud\n"
