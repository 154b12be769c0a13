"""`refresh-lock` under act, where `make lock` resolves from a folder of empty wheels instead of PyPI."""

import subprocess
from pathlib import Path

import httpx
import pytest
from refreshed import begun, proposed, settings
from standin import ROOT, Clone, Server, StandIn

from loop.core import paths


@pytest.fixture
def standin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Start a fork that runs one job at a time, resolves from empty wheels, and has its own cache."""
    subprocess.run([ROOT / "tools/environment", ROOT / "tools/commit.lock"], check=True, capture_output=True)
    real, own = paths.cache(), tmp_path / "cache"
    (own / "envs").mkdir(parents=True)
    for there in (*real.glob("envs/*"), real / "programs", *real.glob("uv-*")):
        (own / there.relative_to(real)).symlink_to(there)
    for name, value in {"LOOP_CACHE": own, **settings(tmp_path)}.items():
        monkeypatch.setenv(name, str(value))
    server = Server(tmp_path / "github", "--repository", "acme/r", "--at-once", "1")
    yield StandIn(server, "acme/r")
    server.stop()


@pytest.fixture
def clone(standin: StandIn, tmp_path: Path) -> Clone:
    return begun(standin, tmp_path)


@pytest.mark.slow
def test_new_locks_are_proposed(standin: StandIn, clone: Clone) -> None:
    """A dispatch and a schedule both propose new locks in one pull request of one commit, which CI checks.

    If main has moved in between, the commit is made again on top of it.
    """
    standin.as_("person").dispatch("refresh-lock.yml", {"reason": "a new click"})
    proposed(standin, clone, "a new click")
    clone.commit("Move main", {"notes.txt": "moved"})
    clone.git("push", "-q", standin.clone_url("bot"), "HEAD:main")  # so that no other workflow runs
    headers = {"Authorization": f"Bearer {standin.server.tokens['person']}"}
    httpx.post(f"{standin.server.url}/_schedule/{standin.name}/refresh-lock.yml", headers=headers)
    proposed(standin, clone, "weekly", runs=2)
