"""The champion is found through Git, restored through DVC, and scored on the challenger's test rows."""

import shutil
from pathlib import Path

import pytest
from trained import MODEL, commit, loop, release, run

from loop.candidate import champion, score
from loop.core import release_state
from loop.core.dvc import Lock
from loop.core.errors import Rejected
from loop.core.git import Change, Git
from loop.core.names import package
from loop.core.project import Project


def track(weight: int, key: str) -> release_state.Track:
    """Return a release with its share of the traffic and its key."""
    return release_state.Track(
        key=key,
        image=f"r.example/m@sha256:{'0' * 64}",
        weight=weight,
        model_md5=f"{'1' * 32}.dir",
        data_md5="2" * 32,
        commit="3" * 40,
        mlflow="m/1",
        bento=f"m:{key}",
    )


def test_the_champion_is_what_origin_says_is_stable(origin: Path):
    """The champion is the stable release on origin's main, even beside a canary or in an outdated clone."""
    clone = origin.parent / "clone"
    assert champion.find(Project(clone, MODEL)) is None
    both = release_state.State(stable=track(90, "a" * 12), canary=track(10, "b" * 12))
    Git(clone).land("main", lambda _: Change(release_state.files(both, "production", MODEL), "Release"))
    assert champion.find(Project(clone, MODEL)) == both.stable
    empty = release_state.State()
    Git(clone).land("main", lambda _: Change(release_state.files(empty, "production", MODEL), "Remove"))
    assert champion.find(Project(clone, MODEL)) is None


def test_what_the_champions_code_prints_need_not_be_utf_8(tmp_path: Path):
    """The error has what can be read of it, and no traceback."""
    script = tmp_path / "loop"
    script.write_text("#!/bin/sh\nprintf 'mod\\350le absent' >&2; exit 1\n")
    script.chmod(0o755)
    with pytest.raises(Rejected, match=r"`./loop repro` .* failed \(1\):\nmod.le absent"):
        champion.own_loop(tmp_path, "repro")


@pytest.mark.slow
def test_md5_is_what_dvc_records(trained: Path):
    """The md5 of a file or folder is the one that dvc.lock records."""
    data, lock = trained / "data/card_fraud", Lock.of(trained)
    assert champion.md5(data / "model") == lock.model_md5(MODEL)
    assert champion.md5(data / "raw.parquet") == lock.md5(MODEL, "raw.parquet")


TINY = """\
stages:
  ingest: {foreach: "${models}", do: {outs: ["data/${key}/raw.parquet"],
    cmd: "mkdir -p data/${key} && echo rows > data/${key}/raw.parquet"}}
  validate: {foreach: "${models}", do: {deps: ["data/${key}/raw.parquet"],
    outs: ["data/${key}/validation"], cmd: "echo fine > data/${key}/validation"}}
  train: {foreach: "${models}", do: {deps: ["data/${key}/raw.parquet"], outs: ["data/${key}/model"],
    cmd: "mkdir -p data/${key}/model && cp data/${key}/raw.parquet data/${key}/model/meta.json"}}
  evaluate: {foreach: "${models}", do: {deps: ["data/${key}/model"], outs: ["data/${key}/scores"],
    cmd: "echo 1 > data/${key}/scores"}}
"""


@pytest.mark.slow
def test_a_champion_whose_outputs_are_lost_is_rebuilt(trained: Path, tmp_path: Path):
    """If the DVC cache is empty and there is no remote, `./loop repro` at its commit restores the champion.

    The stages here are tiny; tests/pipeline/test_repro.py shows that the real ones give the same bytes again.
    """
    (trained / "dvc.yaml").write_text(TINY)
    (trained / "dvc.lock").unlink()
    loop(trained, "repro", MODEL)
    commit(trained, "Train by tiny stages")
    release(trained)
    found = champion.find(Project(trained, MODEL))
    assert found
    (trained / ".dvc/config.local").write_text(f"[cache]\n    dir = {tmp_path / 'empty'}\n")
    with champion.checkout(Project(trained, MODEL), found) as theirs:
        assert champion.md5(theirs.trained) == found.model_md5
    assert not theirs.root.exists()


@pytest.mark.slow
def test_what_a_remote_has_is_trained_by_nobody_again(trained: Path, tmp_path: Path):
    """A machine with an empty cache pulls what `./loop push` has uploaded, instead of training it again."""
    assert "no DVC remote" in loop(trained, "push", MODEL)
    with (trained / ".dvc/config").open("a") as config:
        config.write(
            f"[core]\n    remote = storage\n['remote \"storage\"']\n    url = {tmp_path / 'storage'}\n"
        )
    commit(trained, "Name a DVC remote")
    loop(trained, "push", MODEL)
    other = tmp_path / "other"
    run("git", "clone", "--quiet", str(tmp_path / "origin.git"), str(other), cwd=tmp_path)
    (other / ".dvc/config.local").write_text(f"[cache]\n    dir = {tmp_path / 'empty'}\n")
    assert f"train {package(MODEL)}" not in loop(other, "repro", MODEL, "--check")
    assert champion.md5(other / "data/card_fraud/model") == Lock.of(trained).model_md5(MODEL)


@pytest.mark.slow
def test_both_ways_of_scoring_agree(trained: Path, monkeypatch: pytest.MonkeyPatch):
    """Scoring the challenger's features gives the same scores as the champion's own code on raw rows."""
    release(trained)
    found = champion.find(Project(trained, MODEL))
    assert found
    with champion.checkout(Project(trained, MODEL), found) as theirs:
        assert score.code(Project(trained, MODEL)) == score.code(theirs)
        fast = score.champion_scores(Project(trained, MODEL), theirs)
        monkeypatch.setattr(score, "code", lambda project: project.root)
        assert score.champion_scores(Project(trained, MODEL), theirs).equals(fast)


@pytest.mark.slow
@pytest.mark.parametrize("file", ["requirements.lock", "dvc.lock"])
def test_other_packages_or_feature_code_are_other_code(trained: Path, tmp_path: Path, file: str):
    """If the lock or the features' code differs, the champion's features must come from its own code."""
    other = tmp_path / "other"
    shutil.copytree(trained, other, symlinks=True, ignore=shutil.ignore_patterns("data", ".git"))
    assert score.code(Project(trained, MODEL)) == score.code(Project(other, MODEL))
    text = (other / file).read_text()
    old = Lock.of(trained).stages["features@card_fraud"]["deps"][-1]["md5"]
    (other / file).write_text(text.replace(old, "a" * 32) if file == "dvc.lock" else text + "\n# newer\n")
    assert score.code(Project(trained, MODEL)) != score.code(Project(other, MODEL))
