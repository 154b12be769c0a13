"""loop.diagnosis: what the doctor says of a clone's remote."""

import shutil
import subprocess
from pathlib import Path

import pytest

from loop import diagnosis
from loop.core import repository
from loop.core.repository import Repository

TYPED = "s3cret"


@pytest.mark.parametrize(
    ("default", "state", "found", "fix"),
    [
        ("main", "ok", "main", ""),
        ("master", "bad", "master; workflows and Argo CD follow main", "branches/master/rename"),
        (None, "default", "empty", "git push origin HEAD:main"),
        ("gone", "default", "did not answer", "git ls-remote origin"),
    ],
)
def test_default_branch(tmp_path: Path, default: str | None, state: str, found: str, fix: str) -> None:
    """A remote whose default branch is not the one that everything follows is bad, with how to rename it."""
    origin, clone = tmp_path / "origin.git", tmp_path / "clone"
    git = ("git", "-c", "user.name=t", "-c", "user.email=t@example.test")
    subprocess.run([*git, "init", "-q", "--bare", "-b", default or "main", origin], check=True)
    subprocess.run([*git, "clone", "-q", origin, clone], check=True, capture_output=True)
    if default:
        subprocess.run([*git, "-C", clone, "commit", "-q", "--allow-empty", "-m", "begin"], check=True)
        subprocess.run([*git, "-C", clone, "push", "-q", "origin", f"HEAD:{default}"], check=True)
    if default == "gone":
        shutil.rmtree(origin)
    said = diagnosis._branch(clone)
    assert (said.state, found in said.found, fix in said.fix) == (state, True, True), said


@pytest.mark.parametrize(
    ("url", "state"),
    [
        (f"https://x:{TYPED}@github.com/zoo/birds.git", "ok"),
        ("git@github.com:zoo/birds.git", "ok"),
        (f"https://x:{TYPED}@github.com/zoo/fish.git", "bad"),
    ],
)
def test_origin(tmp_path: Path, url: str, state: str) -> None:
    """Origin is the repository that Argo CD follows; a token in its URL is not shown."""
    clone = tmp_path / "clone"
    (clone / "argocd").mkdir(parents=True)
    (clone / repository.PATH).write_text("data: {}\n")
    own = Repository(name="birds", url="https://github.com/zoo/birds.git", registry="ghcr.io/zoo")
    repository.write(clone, own)
    subprocess.run(["git", "init", "-q", clone], check=True)
    subprocess.run(["git", "-C", clone, "remote", "add", "origin", url], check=True)
    said = diagnosis._origin(clone)
    assert said.state == state
    assert TYPED not in said.found + said.fix
