"""`./loop repro` runs only what has changed, continues after a kill, and compares the result with Git."""

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from trained import change, commit, loop, run, trained, trained_once  # noqa: F401 - fixtures

from loop.core.dvc import Lock
from loop.core.git import Git

pytestmark = pytest.mark.slow


def ran(output: str) -> list[str]:
    """Return the stages that DVC ran."""
    return re.findall(r"Running stage '(\w+)@", output)


def test_nothing_changed_runs_nothing(trained):  # noqa: F811
    """If nothing has changed, a repro runs no stage, and changes no tracked file."""
    assert ran(loop(trained, "repro", "card-fraud", "--check")) == []
    assert Git(trained).run("status", "--porcelain") == ""


def test_a_training_parameter_reruns_train_onwards(trained):  # noqa: F811
    """Only train and evaluate run; `--check` rejects the change until dvc.lock is committed with it."""
    change(trained, train__max_depth=3)
    output = loop(trained, "repro", "card-fraud", "--check", code=4)
    assert ran(output) == ["train", "evaluate"]
    assert "git commit dvc.lock" in output
    commit(trained, "Train a shallower model")
    loop(trained, "repro", "card-fraud", "--check")


def test_killed_in_every_stage_it_ends_in_the_same_result(trained, tmp_path):  # noqa: F811
    """On a machine without outputs, each stage in turn is killed, and the next run continues.

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


STAGE = {  # what a person writes, besides its test, for a new stage: {file: (text to find, text after it)}
    "dvc.yaml": (
        "stages:\n",
        """
  weigh:
    foreach: ${models}
    do:
      cmd: ./loop stage weigh ${key}
      deps: [.loop/stages/weigh, "data/${key}/features.parquet"]
      params: ["models.${key}.weigh"]
      outs: ["data/${key}/weight"]
""",
    ),
    "src/loop/pipeline/weigh.py": (
        "",
        """
import pyarrow.parquet as pq
def main(project):
    rows = pq.read_metadata(project.features).num_rows
    (project.data / "weight").write_text(str(rows * project.params.weigh['grams']))
    return rows
""",
    ),
    "params.yaml": ("  card_fraud:\n", "    weigh: {grams: 3}\n"),
    "src/loop/core/params.py": ("class Model(Section):\n", "    weigh: dict[str, int]\n"),
}
FORGOTTEN = [
    "src/loop/pipeline/weigh.py: is missing, but dvc.yaml has a stage weigh",
    "Parameters 'models.card_fraud.weigh' are missing from 'params.yaml'",
    "models.card_fraud.weigh: is {'grams': 3}; Extra inputs are not permitted",
]


def test_a_new_stage_takes_five_files(trained):  # noqa: F811
    """Until all are written, repro names what is missing; then it runs only the new stage."""
    for (path, (before, text)), said in zip(STAGE.items(), [*FORGOTTEN, ""], strict=True):
        old = (trained / path).read_text() if (trained / path).exists() else ""
        assert not before or old.count(before) == 1
        (trained / path).write_text(old.replace(before, before + text, 1))
        output = run("./loop", "repro", "card-fraud", cwd=trained, code=2 if said else 0)
        assert said in output
    assert ran(output) == ["weigh"]
    assert int((trained / "data/card_fraud/weight").read_text()) > 0
    changed = Git(trained).run("status", "--porcelain", "--untracked-files=all").splitlines()
    outputs = {"dvc.lock", "data/card_fraud/.gitignore"}
    assert {line[3:] for line in changed} - outputs == {*STAGE, ".loop/stages/weigh"}


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
