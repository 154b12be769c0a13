"""`loop status` and `loop models` print what CI and people need to know about each model."""

import json
import shutil
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from trained import MODEL, add, loop, release, run, work_tree

from loop.cli.candidate import score, serve, status
from loop.core import release_state
from loop.core.errors import LoopError
from loop.core.git import Change, Git
from loop.core.project import Project
from loop.packaging import bento
from loop.packaging.key import release_key


def said(clone: Path, monkeypatch: pytest.MonkeyPatch, shown: str = "release") -> dict[str, str]:
    """Return the step outputs of `loop status`, and check that it prints `shown`."""
    outputs = clone.parent / "outputs"
    outputs.write_text("")
    monkeypatch.setenv("GITHUB_OUTPUT", str(outputs))
    monkeypatch.chdir(clone)
    result = CliRunner().invoke(status, [MODEL])
    assert result.exit_code == 0, result.output
    assert shown in result.output
    return dict(line.split("=", 1) for line in outputs.read_text().splitlines())


def test_status_where_nothing_was_ever_trained(
    tmp_path: Path, template: Path, monkeypatch: pytest.MonkeyPatch
):
    """If dvc.lock records no training, `status` succeeds, reports no due release, and says how to begin."""
    clone = tmp_path / "clone"
    (clone / "argocd").mkdir(parents=True)
    for path in ("params.yaml", "dvc.yaml", "argocd/repository.yaml"):
        shutil.copy(template / path, clone / path)
    begin = "./loop train card-fraud && git add params.yaml dvc.lock data && git commit"
    outputs = said(clone, monkeypatch, begin)
    assert outputs == {"key": "", "released": "false", "barred": "false", "due": "false"}


@pytest.mark.parametrize("command", [["serve"], ["register"], ["attest"], ["report", MODEL], ["release"]])
def test_a_model_that_does_not_exist_is_said_with_those_that_do(tmp_path: Path, command: list[str]):
    """Every command says so, before anything else, in place of a record that another command should write."""
    work_tree(tmp_path)
    at = ["--environment", "dev"] if command == ["release"] else []
    said = loop(tmp_path, *command, "nobody", *at, code=2)
    assert "params.yaml has no model 'nobody'; it has card_fraud\n" in said


@pytest.mark.parametrize("command", ["status", "bento", "release", "history", "render"])
def test_an_environment_that_does_not_exist_is_said_with_those_that_do(tmp_path: Path, command: str):
    """Commands say so before they ask for records, and before they ask origin."""
    work_tree(tmp_path)
    said = loop(tmp_path, command, MODEL, "--environment", "prod", code=2)
    there = "kustomize/overlays has no environment 'prod'\n  fix: use one of dev, staging, production\n"
    assert said == f"error: {there}"


def test_a_port_in_use_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The error names a free port. The program at the port must not pass for the model's server."""
    work_tree(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bento, "built", lambda _: SimpleNamespace(path=tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as other:
        done = CliRunner().invoke(serve, [MODEL, "--port", str(port := other.getsockname()[1])])
    said, _, fix = str(done.exception).partition("\n  fix: ")
    assert isinstance(done.exception, LoopError)
    assert said.startswith(f"cannot listen at port {port}: Address already in use")
    assert fix.startswith(f"./loop serve {MODEL} --port ")


def test_score_replaces_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A folder as `--out` is refused, because it would be replaced with all that is in it."""
    work_tree(tmp_path)
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(score, [MODEL, "--raw", "raw", "--ids", "ids", "--out", "src"])
    assert (done.exit_code, "'src' is a directory" in done.output) == (2, True)


def test_a_model_that_was_never_trained_gets_no_job(tmp_path: Path):
    """The commit's dvc.lock decides, not the work tree's; the output says why a model is left out."""
    work_tree(tmp_path)
    (tmp_path / "dvc.lock").write_text("stages:\n  train@card_fraud:\n    cmd: x\n")
    run("git", "init", "-q", cwd=tmp_path)
    run("git", "add", "dvc.lock", cwd=tmp_path)
    run("git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "Train", cwd=tmp_path)
    (tmp_path / "dvc.lock").unlink()
    add(tmp_path, "rents")
    outputs = tmp_path / "outputs"
    printed = loop(tmp_path, "models", "--trained", "HEAD", GITHUB_OUTPUT=str(outputs))
    listed, releases = (json.loads(line.partition("=")[2]) for line in outputs.read_text().splitlines())
    assert (listed, [each["model"] for each in releases]) == ([MODEL], [MODEL])
    assert "rents: nothing to release, as dvc.lock records no training of it; to begin: ./loop" in printed


@pytest.mark.slow
def test_status_knows_what_is_released_and_what_is_barred(trained: Path, monkeypatch: pytest.MonkeyPatch):
    """A key is released while it is on a track at origin, and blocked once it has been rolled back."""
    key = release_key(Project(trained, MODEL))
    fresh = {"key": key, "released": "false", "barred": "false", "due": "true"}
    assert said(trained, monkeypatch) == fresh
    track = release(trained, key=key)
    assert said(trained, monkeypatch) == fresh | {"released": "true", "due": "false"}
    barred = release_state.State(
        stable=track.model_copy(update={"key": "f" * 12}),
        barred=(release_state.Barred(key=key, why="errors"),),
    )
    Git(trained).land("main", lambda _: Change(release_state.files(barred, "production", MODEL), "Roll back"))
    assert said(trained, monkeypatch) == fresh | {"barred": "true", "due": "false"}
