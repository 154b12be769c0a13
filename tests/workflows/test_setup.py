"""What every job begins with tells the steps that follow where things are."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from standin import ROOT

pytestmark = pytest.mark.sample


def setup(folder: Path, variables: str = "{}", stores: str = "") -> subprocess.CompletedProcess[str]:
    """Run the action's script; what it tells lies in `folder`."""
    places = {name: str(folder / name) for name in ("GITHUB_PATH", "GITHUB_ENV")}
    given = {"LOCK": "", "PROGRAMS": "false", "VARIABLES": variables, "STORES": stores}
    environment, script = {**os.environ, **given, **places}, ROOT / ".github/actions/setup/setup"
    return subprocess.run([script], cwd=ROOT, env=environment, check=False, capture_output=True, text=True)


@pytest.mark.parametrize("variables", [{}, {"MLFLOW_TRACKING_URI": "http://a=b", "NOTE": "two\nlines"}])
def test_setup(tmp_path: Path, variables: dict[str, str]) -> None:
    """Environment and clone come onto PATH; variables and the stores' secrets into the environment."""
    done = setup(tmp_path, json.dumps(variables), "AWS_SECRET_ACCESS_KEY=a/b=c\n\nAWS_REGION=eu\n")
    assert done.returncode == 0, done.stderr
    first, second = (tmp_path / "GITHUB_PATH").read_text().splitlines()
    assert Path(first, "python").exists()
    assert Path(second) == ROOT
    told = (tmp_path / "GITHUB_ENV").read_text()
    assert f"PYTHONPATH={ROOT}/src\n" in told
    assert done.stdout == "::add-mask::a/b=c\n::add-mask::eu\n"
    for name, value in {**variables, "AWS_SECRET_ACCESS_KEY": "a/b=c", "AWS_REGION": "eu"}.items():
        end = told.split(f"{name}<<")[1].split("\n")[0]
        assert f"{name}<<{end}\n{value}\n{end}\n" in told


@pytest.mark.parametrize("secret", ["a%25b", "a%0Ab", "100%", "a%0D%0A::set-output name=x::y"])
def test_a_mask_hides_the_very_value(tmp_path: Path, secret: str) -> None:
    """GitHub decodes what a command says, so what stands for a sign in the value stays as it is."""
    done = setup(tmp_path, stores=f"KEY={secret}")
    [said] = done.stdout.splitlines()
    assert unescaped(said.removeprefix("::add-mask::")) == secret


@pytest.mark.parametrize("value", ['"a/b="', "'a/b='", "a/b="])
def test_quotes_around_a_secret_are_no_part_of_it(tmp_path: Path, value: str) -> None:
    """Pasted from a .env file, they would make a key that no store knows."""
    assert setup(tmp_path, stores=f"KEY={value}").stdout == "::add-mask::a/b=\n"
    assert "\na/b=\n" in (tmp_path / "GITHUB_ENV").read_text()


@pytest.mark.parametrize("name", ["PATH", "NODE_OPTIONS", "PYTHONPATH", "LD_PRELOAD", "BASH_ENV"])
def test_an_organizations_variable_cannot_steer_a_step(tmp_path: Path, name: str) -> None:
    """One set for other repositories comes too; as PATH it would hide every program from the later steps."""
    done = setup(tmp_path, json.dumps({name: "/nowhere", "NOTE": "passed"}))
    told = (tmp_path / "GITHUB_ENV").read_text()
    assert f"{name}<<" not in told
    assert "NOTE<<" in told
    assert f"{name} is not passed on" in done.stderr


def unescaped(data: str) -> str:
    """What GitHub's runner makes of a command's data."""
    return data.replace("%0D", "\r").replace("%0A", "\n").replace("%25", "%")


def test_a_secret_that_is_no_line(tmp_path: Path) -> None:
    """What is no NAME=value ends the job with the line's number, and is shown to nobody."""
    done = setup(tmp_path, stores="AWS_REGION=eu\ns3cr3t")
    assert done.returncode == 1
    assert done.stderr == "secret STORES: line 2 is not of the form NAME=value\n"
    assert "s3cr3t" not in done.stdout
