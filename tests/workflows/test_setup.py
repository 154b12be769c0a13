"""What every job begins with tells the steps that follow where things are."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from standin import ROOT


@pytest.mark.parametrize("variables", [{}, {"MLFLOW_TRACKING_URI": "http://a=b", "NOTE": "two\nlines"}])
def test_setup(tmp_path: Path, variables: dict[str, str]) -> None:
    """The environment and the clone come onto PATH; variables become environment variables."""
    places = {name: tmp_path / name for name in ("GITHUB_PATH", "GITHUB_ENV")}
    given = {"LOCK": "", "PROGRAMS": "false", "VARIABLES": json.dumps(variables)}
    environment = {**os.environ, **given, **{name: str(path) for name, path in places.items()}}
    subprocess.run([ROOT / ".github/actions/setup/setup"], cwd=ROOT, env=environment, check=True)
    first, second = places["GITHUB_PATH"].read_text().splitlines()
    assert Path(first, "python").exists()
    assert Path(second) == ROOT
    told = places["GITHUB_ENV"].read_text()
    assert f"PYTHONPATH={ROOT}/src\n" in told
    for name, value in variables.items():
        end = told.split(f"{name}<<")[1].split("\n")[0]
        assert f"{name}<<{end}\n{value}\n{end}\n" in told
