"""`refresh-lock` under act: `make lock` resolves anew, from a folder of hollow wheels instead of PyPI."""

import re
import subprocess
from pathlib import Path
from zipfile import ZipFile

import httpx
import pytest
from standin import ROOT, Clone, Server, StandIn
from trained import work_tree

from loop.core import paths

PINNED = re.compile(r"(?m)^([A-Za-z0-9][\w.-]*)==([^\s;\\]+)")


def locks() -> list[str]:
    listed = subprocess.check_output(["git", "ls-files", "*.lock"], cwd=ROOT, text=True).split()
    return [path for path in listed if path != "dvc.lock"]


def hollow(folder: Path, name: str, version: str) -> None:
    """A wheel that has a name and a version, and needs and holds nothing."""
    stem = f"{re.sub('[-_.]+', '_', name)}-{version}"
    with ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as wheel:
        about = f"{stem}.dist-info"
        wheel.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "")


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """All that the locks pin, and a version of click that they do not know."""
    (folder := tmp_path / "wheels").mkdir()
    pinned = {found for lock in locks() for found in PINNED.findall((ROOT / lock).read_text())}
    for name, version in {*pinned, ("click", "99.0")}:
        hollow(folder, name, version)
    return folder


@pytest.fixture
def standin(tmp_path: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch):
    """A fork whose runs resolve from `wheels`, one at a time, and leave no environment in the real cache."""
    real, own = paths.cache(), tmp_path / "cache"
    (own / "envs").mkdir(parents=True)
    for there in (*real.glob("envs/*"), real / "programs", *real.glob("uv-*")):
        (own / there.relative_to(real)).symlink_to(there)
    for name, value in {
        "LOOP_CACHE": own,
        "UV_NO_INDEX": 1,
        "UV_FIND_LINKS": wheels,
        "UV_CACHE_DIR": tmp_path / "uv",
    }.items():
        monkeypatch.setenv(name, str(value))
    server = Server(tmp_path / "github", "--repository", "acme/r", "--at-once", "1")
    yield StandIn(server, "acme/r")
    server.stop()


@pytest.fixture
def clone(standin: StandIn, tmp_path: Path) -> Clone:
    begun = Clone(tmp_path / "work-tree")
    work_tree(begun.folder)
    begun.git("init", "-q", "-b", "main")
    begun.commit("begin", {})
    begun.git("push", "-q", standin.clone_url("bot"), "HEAD:main")
    return standin.clone(tmp_path / "clone")


@pytest.mark.slow
def test_new_locks_are_proposed(standin: StandIn, clone: Clone) -> None:
    """By hand and by the timer: one branch with one commit of nothing but locks, one pull request, and CI."""
    standin.as_("person").dispatch("refresh-lock.yml", {"reason": "a new click"})
    proposed(standin, clone, "a new click")
    headers = {"Authorization": f"Bearer {standin.server.tokens['person']}"}
    httpx.post(f"{standin.server.url}/_schedule/{standin.name}/refresh-lock.yml", headers=headers)
    proposed(standin, clone, "weekly", runs=2)


def proposed(standin: StandIn, clone: Clone, why: str, runs: int = 1) -> None:
    """Wait for so many runs of the workflow; what they left."""
    refreshed, *_ = standin.finished("refresh-lock.yml", runs)
    assert refreshed["conclusion"] == "success", standin.log(refreshed)
    (pull,) = standin.ask("GET", "/pulls").json()
    assert pull["head"]["ref"] == "refresh-lock"
    assert standin.as_("person").runs("ci.yml")[0]["head_branch"] == "refresh-lock"
    clone.git("fetch", "-q", "origin", "main", "refresh-lock")
    tip = "origin/refresh-lock"
    assert clone.git("rev-list", "--count", f"origin/main..{tip}").stdout == "1\n"
    changed = clone.git("diff", "--name-only", "origin/main", tip).stdout.split()
    assert set(changed) <= set(locks())
    assert "click==99.0" in clone.git("show", f"{tip}:requirements.lock").stdout
    assert f"Why: {why}" in clone.git("log", "-1", "--format=%B", tip).stdout
