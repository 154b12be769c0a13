"""The stand-in's own actions for artifacts: what they refuse, and where they write."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from standin import ROOT

SCRIPT = ROOT / "src/loop_demo/github/played/artifact/artifact.py"


def act(folder: Path, action: str, name: str) -> subprocess.CompletedProcess[str]:
    """Upload the folder's file `a`, or download to the folder's `into`, as a job of a run does."""
    paths = "a" if action == "upload" else "into"
    given = {"NAME": name, "PATHS": paths, "MISSING": "error", "LEVEL": "6", "OVERWRITE": "false"}
    places = {"STAND_IN_ARTIFACTS": str(folder / "run"), "GITHUB_OUTPUT": str(folder / "output")}
    command = [sys.executable, str(SCRIPT), f"actions/{action}-artifact"]
    return subprocess.run(
        command, cwd=folder, env={**given, **places}, capture_output=True, text=True, check=False
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    (tmp_path / "a").write_text("1\n")
    return tmp_path


@pytest.mark.parametrize("action", ["upload", "download"])
def test_a_name_that_github_forbids_is_refused(folder: Path, action: str) -> None:
    """A name with a character that GitHub forbids is refused, so an artifact stays in the run's folder."""
    for name in ("../evil", "a:b", 'a"', "<a>", "a|b", "a*", "a?", "a\nb", "a\rb", "a\\b"):
        refused = act(folder, action, name)
        assert refused.returncode == 1, name
        assert refused.stdout.startswith(f"::error::The artifact name is not valid: {name!r}")
    assert not list(folder.rglob("*.zip"))


def test_an_upload_leaves_another_upload_of_its_name_alone(folder: Path) -> None:
    """An upload first writes to a file of its own, which no other upload of the same name uses."""
    other = folder / "run" / "x.new"
    other.write_text("half")
    assert act(folder, "upload", "x").returncode == 0
    assert other.read_text() == "half"
    assert zipfile.ZipFile(folder / "run" / "x.zip").read("a") == b"1\n"
    assert sorted(path.name for path in (folder / "run").iterdir()) == ["x.new", "x.zip"]
