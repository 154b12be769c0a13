"""The action `setup`, with which every job begins, sets PATH and variables for the steps after it."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from standin import ROOT

pytestmark = pytest.mark.sample


def setup(folder: Path, variables: str = "{}", stores: str = "") -> subprocess.CompletedProcess[str]:
    """Run the action's script, which writes PATH and the variables to files in `folder`."""
    places = {name: str(folder / name) for name in ("GITHUB_PATH", "GITHUB_ENV")}
    given = {"LOCK": "", "PROGRAMS": "false", "VARIABLES": variables, "STORES": stores}
    environment, script = {**os.environ, **given, **places}, ROOT / ".github/actions/setup/setup"
    return subprocess.run([script], cwd=ROOT, env=environment, check=False, capture_output=True, text=True)


@pytest.mark.parametrize("variables", [{}, {"MLFLOW_TRACKING_URI": "http://a=b", "NOTE": "two\nlines"}])
def test_later_steps_get_programs_and_variables(tmp_path: Path, variables: dict[str, str]) -> None:
    """Later steps get the environment and the clone on PATH, and the variables and the stores' secrets."""
    done = setup(tmp_path, json.dumps(variables), "AWS_SECRET_ACCESS_KEY=a/b=c\n\nAWS_REGION=eu\n")
    assert done.returncode == 0, done.stderr
    first, second = (tmp_path / "GITHUB_PATH").read_text().splitlines()
    assert Path(first, "python").exists()
    assert Path(second) == ROOT
    written = (tmp_path / "GITHUB_ENV").read_text()
    assert f"PYTHONPATH={ROOT}/src\n" in written
    assert done.stdout == "::add-mask::a/b=c\n::add-mask::eu\n"
    for name, value in {**variables, "AWS_SECRET_ACCESS_KEY": "a/b=c", "AWS_REGION": "eu"}.items():
        end = written.split(f"{name}<<")[1].split("\n")[0]
        assert f"{name}<<{end}\n{value}\n{end}\n" in written


@pytest.mark.parametrize("secret", ["a%25b", "a%0Ab", "100%", "a%0D%0A::set-output name=x::y"])
def test_a_mask_hides_the_exact_value(tmp_path: Path, secret: str) -> None:
    """A secret is escaped in the mask command, because GitHub decodes escapes there."""
    done = setup(tmp_path, stores=f"KEY={secret}")
    [line] = done.stdout.splitlines()
    assert unescaped(line.removeprefix("::add-mask::")) == secret


@pytest.mark.parametrize("value", ['"a/b="', "'a/b='", "a/b="])
def test_quotes_around_a_secret_are_removed(tmp_path: Path, value: str) -> None:
    """Quotes around a value, as in a .env file, are not part of the secret."""
    assert setup(tmp_path, stores=f"KEY={value}").stdout == "::add-mask::a/b=\n"
    assert "\na/b=\n" in (tmp_path / "GITHUB_ENV").read_text()


@pytest.mark.parametrize("name", ["PATH", "NODE_OPTIONS", "PYTHONPATH", "LD_PRELOAD", "BASH_ENV"])
def test_dangerous_variables_are_not_passed_on(tmp_path: Path, name: str) -> None:
    """A variable of the organization that would change how steps run, such as PATH, is not passed on."""
    done = setup(tmp_path, json.dumps({name: "/nowhere", "NOTE": "passed"}))
    written = (tmp_path / "GITHUB_ENV").read_text()
    assert f"{name}<<" not in written
    assert "NOTE<<" in written
    assert f"{name} is not passed on" in done.stderr


def unescaped(data: str) -> str:
    """Decode a command's data like GitHub's runner."""
    return data.replace("%0D", "\r").replace("%0A", "\n").replace("%25", "%")


def test_a_malformed_secret_is_not_printed(tmp_path: Path) -> None:
    """A line of STORES that is not NAME=value ends the job with the line's number, and is not printed."""
    done = setup(tmp_path, stores="AWS_REGION=eu\ns3cr3t")
    assert done.returncode == 1
    assert done.stderr == "secret STORES: line 2 is not of the form NAME=value\n"
    assert "s3cr3t" not in done.stdout
