"""Judge and monitor run as in their pods: without a work tree, and the judge with one writable folder."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from releases import A, B, canary
from ruamel.yaml import YAML
from shop import FakeTrack, Production, retrain, rows
from standin import Server, StandIn

from loop.cli.monitoring import monitor
from loop.core.release_state import files

MODEL = "card-fraud"
TRAIN = """\
name: train
run-name: "Train ${{ inputs.model }}: ${{ inputs.reason }}"
on:
  workflow_dispatch:
    inputs:
      model: {type: string}
      until: {type: string}
      reason: {type: string}
jobs:
  train:
    runs-on: ubuntu-latest
    steps: [{run: "true"}]
"""


@pytest.fixture
def github(tmp_path: Path) -> Iterator[StandIn]:
    """Start a stand-in for GitHub with one repository."""
    server = Server(tmp_path / "github", "--at-once", "0", "--act", "false")
    yield StandIn(server, "acme/loop")
    server.stop()


class Pod:
    """A pod with the files of the judge's image, which runs like its container."""

    def __init__(self, template: Path, folder: Path, url: str) -> None:
        self.root, self.tmp, self.token = folder / "loop", folder / "tmp", folder / "token"
        self.tmp.mkdir()
        shutil.copytree(template / "src", self.root / "src", ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("params.yaml", "dvc.yaml"):
            shutil.copy(template / name, self.root)
        (self.root / "argocd").mkdir()
        named = {"data": {"name": "loop", "url": url, "registry": "registry.test/loop"}}
        YAML().dump(named, self.root / "argocd" / "repository.yaml")
        for path in [self.root, *self.root.rglob("*")]:
            path.chmod(path.stat().st_mode & ~0o222)

    def start(self, *args: str) -> "subprocess.Popen[str]":
        env = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(self.root / "src"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUNBUFFERED": "1",
            "TMPDIR": str(self.tmp),
            "GITHUB_TOKEN_FILE": str(self.token),
        }
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen([sys.executable, "-m", "loop", *args], cwd=self.root, env=env, **pipes)

    def files(self) -> list[str]:
        return sorted(str(path) for path in self.root.rglob("*"))


@pytest.fixture
def pod(template: Path, tmp_path: Path, github: StandIn) -> Iterator[Pod]:
    made = Pod(template, tmp_path, f"{github.server.url}/acme/loop.git")
    yield made
    for path in [made.root, *made.root.rglob("*")]:
        path.chmod(path.stat().st_mode | 0o200)


def until(condition: Callable[[], object], judge: "subprocess.Popen[str]", seconds: float = 60) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        assert judge.poll() is None, judge.stdout.read()
        assert time.monotonic() < ends
        time.sleep(0.05)


@pytest.mark.slow
def test_pod(pod: Pod, github: StandIn, repository: Path, served: Callable[[], FakeTrack]) -> None:
    """The judge survives an invalid token, uses the next, dispatches a promotion, and stops on SIGTERM."""
    workflow = ".github/workflows/promote.yml"
    begun = {workflow: (repository / workflow).read_text(), **files(canary(0), "production", MODEL)}
    github.seed(pod.tmp.with_name("clone"), begun)
    stable, new = served(), served()
    stable.key, new.key = A, B
    before = pod.files()
    usage, _ = pod.start("judge", "--help").communicate(timeout=60)
    assert "--prometheus" in usage

    pod.token.write_text("expired")
    urls = [f"--stable={stable.url}", f"--canary={new.url}", f"--alive={pod.tmp / 'alive'}"]
    judge = pod.start("judge", MODEL, *urls, "--dispatch", "--forever", "--every=0.1")
    until((pod.tmp / "alive").exists, judge)
    pod.token.write_text(f"{github.server.tokens['bot']}\n")
    until(github.runs, judge)
    asked = time.time()
    until(lambda: (pod.tmp / "alive").stat().st_mtime > asked, judge)  # the check that dispatched has ended
    (run,) = github.runs()
    assert run["display_title"] == f"Promote {MODEL}: production {B} from canary-0"
    written = [path.read_bytes() for path in pod.tmp.rglob("*") if path.is_file()]
    assert not any(github.server.tokens["bot"].encode() in text for text in written)

    judge.send_signal(signal.SIGTERM)
    said, _ = judge.communicate(timeout=30)
    assert judge.returncode == 0, said
    assert said.startswith("GitError: git clone"), said
    assert "expired" not in said
    assert "dispatched promote.yml" in said
    assert pod.files() == before
    assert [path.name for path in pod.tmp.iterdir()] == ["alive"]


@pytest.mark.slow
def test_monitor(
    production: Production, github: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a work tree, the monitor finds drift, reads main in a scratch clone, and dispatches once."""
    clone = github.seed(tmp_path / "person", {".github/workflows/train.yml": TRAIN})
    folder = tmp_path / "loop"
    shutil.copytree(production.root, folder, ignore=shutil.ignore_patterns(".git", "data"))
    tracked = ("params.yaml", "dvc.yaml")
    clone.push("Begin", {name: (folder / name).read_text() for name in tracked})
    retrain(clone.folder, "drift 0.4")
    url = f"{github.server.url}/acme/loop.git"
    (folder / "argocd").mkdir()
    YAML().dump(
        {"data": {"name": "loop", "url": url, "registry": "r.test"}}, folder / "argocd/repository.yaml"
    )
    production.answer(rows(1_500, scale=1.5))
    (tmp_path / "token").write_text(github.server.tokens["bot"])
    monkeypatch.setenv("GITHUB_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.chdir(folder)
    where = [f"--log={production.log}", f"--store={production.store}", f"--out={tmp_path / 'out'}"]
    reference = f"--reference={production.root / 'data/shop/reference.parquet'}"
    args = ["shop", *where, reference, "--dispatch", "--no-exit-code"]
    for line in ("dispatch: drift", "dispatch: run 1 is queued"):
        done = CliRunner().invoke(monitor, args, catch_exceptions=False)
        assert done.exit_code == 0
        assert line in done.output
    assert [run["display_title"][:16] for run in github.runs()] == ["Train shop: drif"]
    assert 'auto_retrain_total{model="shop"} 1.0' in (tmp_path / "out" / "metrics.prom").read_text()
