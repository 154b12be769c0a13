"""`./loop repro` as DVC runs it: only what changed, again after any death, and against what Git has."""

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from trained import change, commit, loop, trained, trained_once  # noqa: F401 - fixtures

from loop.core.dvc import Lock
from loop.core.git import Git

pytestmark = pytest.mark.slow


def ran(output: str) -> list[str]:
    """The stages that DVC ran."""
    return re.findall(r"Running stage '(\w+)@", output)


def test_nothing_changed_runs_nothing(trained):  # noqa: F811
    """A repro of what is up to date runs no stage, and Git sees no change."""
    assert ran(loop(trained, "repro", "card-fraud", "--check")) == []
    assert Git(trained).run("status", "--porcelain") == ""


def test_a_training_parameter_reruns_train_onwards(trained):  # noqa: F811
    """Only train and evaluate run; until dvc.lock is committed with it, `--check` rejects."""
    change(trained, train__max_depth=3)
    output = loop(trained, "repro", "card-fraud", "--check", code=4)
    assert ran(output) == ["train", "evaluate"]
    assert "git commit dvc.lock" in output
    commit(trained, "Train a shallower model")
    loop(trained, "repro", "card-fraud", "--check")


def test_killed_in_every_stage_it_ends_in_the_same_result(trained, tmp_path):  # noqa: F811
    """SIGKILL in each stage in turn, on a machine that has no output: the next run goes on.

    It ends with the md5s of an undisturbed run, so outputs that are lost everywhere can be rebuilt.
    """
    undisturbed = Lock.of(trained).stages
    (trained / ".dvc/config.local").write_text(f"[cache]\n    dir = {tmp_path / 'empty'}\n")
    (trained / "dvc.lock").unlink()
    shutil.rmtree(trained / "data/card_fraud")
    for stage in ("ingest", "validate", "features", "train", "evaluate"):
        kill_in(trained, stage)
    loop(trained, "repro", "card-fraud")
    assert Lock.of(trained).stages == undisturbed


def kill_in(root: Path, stage: str) -> None:
    """Start a repro, and kill its whole process group once `stage` has begun."""
    repro = subprocess.Popen(
        ["./loop", "repro", "card-fraud"],
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    begun = any(line.startswith(f"{stage} card_fraud …") for line in repro.stdout)
    os.killpg(repro.pid, signal.SIGKILL)
    repro.wait()
    assert begun
