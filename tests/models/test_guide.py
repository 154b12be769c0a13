"""The commands in docs/fork.md lead from a file to a released answer."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pyarrow.parquet as pq
import pytest
from here import dvc_here, models_of  # noqa: F401 - a fixture
from ruamel.yaml import YAML
from trained import commit, loop, outside, run, work_tree

from loop.core import models
from loop.core.files import read_json
from loop.core.git import Git
from loop.core.project import Project
from loop.packaging.process import Server
from loop.stats import metrics

MODEL = "lettings"
HEADING = "## From a file to a released answer"


@pytest.fixture
def fork(tmp_path: Path, origin: Path, cache: Path, dvc_here: None, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: F811
    """Return a clone of a fork with one model."""
    monkeypatch.setenv("LOOP_ENGINE", "none")
    work_tree(tmp_path / "clone")
    commit(tmp_path / "clone", "Begin")
    return tmp_path / "clone"


def blocks(repository: Path) -> list[list[str]]:
    """Return the lines of each block of commands below the heading."""
    _, text = (repository / "docs/fork.md").read_text().split(HEADING)
    section = text.split("\n## ")[0]
    return [block.strip().splitlines() for block in re.findall(r"```sh\n(.*?)```", section, re.DOTALL)]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_guide(fork: Path, repository: Path) -> None:
    """Every command does what the guide says, and changes nothing outside the new model's folders.

    Afterwards the fork passes its checks, even without the model that it began with.
    """
    made, asked, released = blocks(repository)
    for command in commands(made):
        if command.startswith("$EDITOR"):
            edited(fork)
        elif not command.startswith("./loop serve"):
            typed(fork, command.replace("s3://bucket/", ""))
    answered(fork, asked)
    commit(fork, "Add lettings")
    printed = [typed(fork, command) for command in commands(released)]
    manifests = list(YAML(typ="safe").load_all(printed[-1]))
    deployment = next(each for each in manifests if each["kind"] == "Deployment")
    image = read_json(Project(fork, MODEL).build / "image.json")["image"]
    assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == image
    assert changed(fork) <= {"params.yaml", "dvc.lock", "flats.parquet"}
    loop(fork, "render", "--check")
    loop(fork, "report")
    loop(fork, "init", "--models", MODEL)
    run("git", "add", "--all", cwd=fork)
    run(sys.executable, "-m", "ruff", "check", ".", cwd=fork)
    run(sys.executable, "-m", "pytest", "-m", "contract or params", cwd=fork, PYTHONPATH="src")


@pytest.mark.docs
def test_the_guide_names_every_task_and_metric(repository: Path) -> None:
    """The table of tasks has a row for each task, with all its metrics in order."""
    rows = re.findall(r"(?m)^\| `(\w+)` \|.*\|.*\| (.*) \|$", (repository / "docs/fork.md").read_text())
    told = {task: re.findall(r"`(\w+)`", named) for task, named in rows if task in get_args(models.Task)}
    assert told == {task: [*metrics.of(task)] for task in get_args(models.Task)}


def commands(lines: list[str]) -> list[str]:
    """Return the commands in a block's lines, without comments."""
    return [command.strip() for line in lines for command in line.split("  #")[0].split("&&")]


def typed(fork: Path, command: str) -> str:
    """Run a command as a person types it, and return its output."""
    program, *words = shlex.split(command)
    return loop(fork, *words) if program == "./loop" else run(program, *words, cwd=fork)


def edited(fork: Path) -> None:
    """Do what a person does in an editor; here, only write the file with the rows."""
    with models_of(fork):
        folder = models.load(fork, MODEL)
        pq.write_table(folder.source.simulate(folder.source.Params()), fork / "flats.parquet")
    run("git", "add", "flats.parquet", cwd=fork)


def answered(fork: Path, lines: list[str]) -> None:
    """Check that each answer has the keys and types that the guide shows below the request."""
    bento = Path(read_json(Project(fork, MODEL).build / "bento.json")["path"])
    with Server(bento) as server:
        for request, shown in zip(lines[::2], lines[1::2], strict=True):
            assert "localhost:3000" in request
            called = request.replace("localhost:3000", server.url)
            answer = json.loads(subprocess.check_output(called, shell=True, env=outside()))  # noqa: S602 - as a person
            expected = json.loads(shown.removeprefix("# "))
            assert {key: type(value) for key, value in answer.items()} == {
                key: type(value) for key, value in expected.items()
            }


def changed(fork: Path) -> set[str]:
    """Return the files outside the model's own folders that differ from the first commit."""
    git = Git(fork)
    begin = git.run("log", "--format=%H", "--grep=^Begin$")
    names = git.run("diff", "--name-only", begin, "HEAD").splitlines()
    own = re.compile(
        rf"(src/models|bentos|kustomize/models|kustomize/overlays/[^/]+|data)/{MODEL}/|data/.gitignore"
    )
    return {name for name in names if not own.match(name)}
