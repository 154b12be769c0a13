"""A retraining is committed once, onto the current main, unless main has changed the pipeline meanwhile."""

from concurrent.futures import ThreadPoolExecutor
from hashlib import md5
from pathlib import Path

import pytest
from standin import Clone

from loop.core.errors import LoopError, Superseded
from loop.core.project import Project
from loop.delivery.land import land

LOCK = """\
stages:
  ingest@m:
    outs: [{{path: data/m/raw.parquet, md5: d{0}}}]
  train@m:
    outs: [{{path: data/m/model, md5: m{0}}}]
  evaluate@m:
    outs: [{{path: data/m/metrics.json, md5: '{1}'}}]
"""
METRICS = "data/m/metrics.json"


def trained(number: int) -> dict[str, str]:
    metrics = f"{number}\n"
    lock = LOCK.format(number, md5(metrics.encode(), usedforsecurity=False).hexdigest())
    return {"params.yaml": f"models: {number}\n", "dvc.lock": lock, METRICS: metrics}


@pytest.fixture
def clone(origin: Path) -> Clone:
    clone = Clone(origin.parent / "clone")
    clone.push("first", trained(1))
    return clone


def retrain(clone: Clone) -> None:
    for path, text in trained(2).items():
        (clone.folder / path).write_text(text)


def test_a_retraining_lands_on_todays_main(clone: Clone) -> None:
    """The bot commits the retraining's four files, with trailers, on top of main's other new commits."""
    retrain(clone)
    (clone.folder / "data/m/logged.json").write_text("{}\n")
    begin = clone.git("rev-parse", "HEAD").stdout.strip()
    other = Clone(clone.folder.parent / "other")
    clone.git("clone", "-q", clone.git("remote", "get-url", "origin").stdout.strip(), str(other.folder))
    other.push("a release", {"kustomize/x": "1\n"})
    commit = land(Project(clone.folder, "m"), "drift of\namount")
    assert clone.git("show", f"{commit}:dvc.lock").stdout == trained(2)["dvc.lock"]
    assert clone.git("show", f"{commit}:kustomize/x").stdout == "1\n"
    assert clone.git("show", f"{commit}:data/m/logged.json").stdout == "{}\n"
    message = clone.git("log", "-1", "--format=%an%n%B", commit).stdout
    assert message.splitlines()[0] == "github-actions[bot]"
    for trailer in ("Action: retrain", "Model: m", "Model-MD5: m2", "Data-MD5: d2", "Why: drift of amount"):
        assert trailer in message
    assert clone.git("rev-parse", "HEAD").stdout.strip() == begin


def test_landing_twice_makes_one_commit(clone: Clone) -> None:
    """Landing the same training again makes no second commit."""
    retrain(clone)
    assert land(Project(clone.folder, "m"), "weekly")
    assert land(Project(clone.folder, "m"), "weekly") is None


def test_a_changed_pipeline_supersedes_a_retraining(clone: Clone) -> None:
    """If main has changed a file that the pipeline reads, the retraining is not committed."""
    other = Clone(clone.folder.parent / "other")
    clone.git("clone", "-q", clone.git("remote", "get-url", "origin").stdout.strip(), str(other.folder))
    sha = other.push("theirs", {"src/models/m/features.py": "x = 1\n"})
    retrain(clone)
    with pytest.raises(Superseded, match=r"features\.py"):
        land(Project(clone.folder, "m"), "weekly")
    assert clone.git("ls-remote", "origin", "main").stdout.split()[0] == sha


@pytest.mark.parametrize("same", [True, False])
def test_two_retrainings_at_once_make_one_commit(clone: Clone, same: bool) -> None:
    """Two trainings of one model at the same time leave one commit, even without a `concurrency:` group."""
    begin = clone.git("rev-parse", "HEAD").stdout.strip()
    machines = [Clone(clone.folder.parent / f"machine-{number}") for number in range(2)]
    for number, machine in enumerate(machines):
        clone.git("clone", "-q", clone.git("remote", "get-url", "origin").stdout.strip(), str(machine.folder))
        for path, text in trained(2 if same else 2 + number).items():
            (machine.folder / path).write_text(text)

    def attempt(machine: Clone) -> str | None:
        try:
            return land(Project(machine.folder, "m"), "drift")
        except Superseded as error:
            return type(error).__name__

    with ThreadPoolExecutor(2) as pool:
        ended = set(pool.map(attempt, machines))
    clone.git("fetch", "-q")
    made = clone.git("rev-list", f"{begin}..origin/main").stdout.split()
    assert len(made) == 1
    assert ended == {made[0], None if same else "Superseded"}


def test_missing_files_are_named(clone: Clone) -> None:
    """If the trained model's files are missing, nothing is committed, and the error names them."""
    with pytest.raises(LoopError, match=r"data/other/metrics\.json"):
        land(Project(clone.folder, "other"), "weekly")
