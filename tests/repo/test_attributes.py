"""What .gitattributes promises of a clone."""

import shutil
from pathlib import Path

from releases import git


def test_a_clone_has_the_bytes_that_were_committed(repository: Path, tmp_path: Path) -> None:
    """With core.autocrlf, as Git for Windows sets it, a script would not start and hashes would differ."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    for name in (".gitattributes", "loop", "dvc.yaml"):
        shutil.copy(repository / name, here)
    git(here, "init", "-q")
    git(here, "add", "-A")
    git(here, "commit", "-q", "-m", "any")
    git(tmp_path, "clone", "-q", "-c", "core.autocrlf=true", str(here), str(there))
    for name in ("loop", "dvc.yaml"):
        assert (there / name).read_bytes() == (repository / name).read_bytes()
