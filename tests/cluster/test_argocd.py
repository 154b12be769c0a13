"""Argo CD's programs as this node starts them."""

import subprocess
from pathlib import Path

import argocd
import pytest
from place import Place

pytestmark = pytest.mark.sample


def test_git_does_not_look_up_the_hosts_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its identity is given: a lookup without DNS would delay each fetch and checkout by seconds."""
    monkeypatch.setattr(argocd, "pinned", lambda: tmp_path)
    env = argocd._environment(Place(tmp_path / "run", tmp_path / "registry"))
    command = ["git", "var", "GIT_COMMITTER_IDENT"]
    said = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert "<argocd@localhost>" in said
