"""The node starts Argo CD's programs with an identity for Git."""

import subprocess
from pathlib import Path

import argocd
import pytest
from place import Place

pytestmark = pytest.mark.sample


def test_git_does_not_look_up_the_hosts_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Git has a given identity, because a lookup without DNS would delay each fetch by seconds."""
    monkeypatch.setattr(argocd, "pinned", lambda: tmp_path)
    env = argocd._environment(Place(tmp_path / "run", tmp_path / "registry"))
    command = ["git", "var", "GIT_COMMITTER_IDENT"]
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "<argocd@localhost>" in done.stdout
