"""With .gitattributes, merges within a team keep both sides, and Git never changes line ends."""

import subprocess
from pathlib import Path

import pytest
from here import called

OWN = "params.yaml"
BEGUN = "models:\n  # 1\n  # 2\n  # 3\n  # 4\n  # 5\n  # 6\n"


@pytest.fixture
def clone(tmp_path, repository, monkeypatch):
    """Make a fork after `./loop init`, for a person who has set the merge driver `ours` of the Git book."""
    (tmp_path / "settings").write_text(
        '[user]\nname = t\nemail = t@example.test\n[merge "ours"]\ndriver = true\n[core]\nautocrlf = true\n'
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "settings"))
    clone = tmp_path / "clone"
    clone.mkdir()
    (clone / "argocd").mkdir()
    for name in (".gitattributes", "argocd/repository.yaml"):
        (clone / name).write_bytes((repository / name).read_bytes())
    git(clone, "init", "-q", "-b", "main")
    (clone / "dvc.yaml").touch()
    commit(clone, BEGUN)
    monkeypatch.chdir(clone)
    assert called("init", "--name", "fork") == 0
    commit(clone, BEGUN)
    return clone


def git(clone: Path, *args: str) -> str:
    return subprocess.run(["git", *args], cwd=clone, check=True, capture_output=True, text=True).stdout


def commit(clone: Path, text: str) -> None:
    (clone / OWN).write_text(text)
    git(clone, "add", ".")
    git(clone, "commit", "-q", "-m", "a commit")


@pytest.mark.parametrize("how", ["merge", "rebase"])
def test_a_merge_within_a_team_keeps_both_changes(clone, how):
    """A merge or rebase keeps both changes of params.yaml, even if a person's driver would keep one side."""
    git(clone, "checkout", "-q", "-b", "feature")
    commit(clone, BEGUN.replace("# 1", "max_depth: 5"))
    git(clone, "checkout", "-q", "main")
    commit(clone, BEGUN.replace("# 6", "floor: 0.45"))
    git(clone, "checkout", "-q", "feature")
    git(clone, how, "main")
    assert (clone / OWN).read_text() == BEGUN.replace("# 1", "max_depth: 5").replace("# 6", "floor: 0.45")


@pytest.mark.parametrize("content", [b"#!/bin/sh\nset -eu\n", b"id,label\r\n1,0\r\n"])
def test_git_changes_no_bytes(clone, content):
    """Git checks out the committed bytes even with autocrlf, so scripts run and hashes agree everywhere."""
    (clone / "file").write_bytes(content)
    git(clone, "add", "file")
    (clone / "file").unlink()
    git(clone, "checkout", "file")
    assert (clone / "file").read_bytes() == content
