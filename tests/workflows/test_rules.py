"""The rules that every workflow keeps, held here because no linter knows them."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from standin import ROOT

from loop.cli import COMMANDS, cli

FOLDER = ROOT / ".github"
WORKFLOWS = sorted((FOLDER / "workflows").glob("*.yml"))
FILES = [*WORKFLOWS, *sorted(FOLDER.glob("actions/*/action.yml"))]
PIN = re.compile(r"uses: (?P<action>[\w./-]+)@(?P<sha>[0-9a-f]{40}) # v\d+\.\d+\.\d+$")


def read(path: Path) -> dict[str, Any]:
    return YAML(typ="safe").load(path)


def jobs() -> list[Any]:
    return [
        pytest.param(job, id=f"{path.stem}:{name}")
        for path in WORKFLOWS
        for name, job in read(path)["jobs"].items()
    ]


def scripts() -> list[str]:
    return [step["run"] for job in jobs() for step in job.values[0].get("steps", []) if "run" in step]


def loop_commands() -> list[list[str]]:
    found = [
        shlex.split(part)
        for script in scripts()
        for part in re.findall(r"(?m)^(?:\./loop|python -m loop) ([^|\n]*)", script)
    ]
    assert len(found) > 10
    return found


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflow(path: Path) -> None:
    """A workflow introduces itself, grants nothing at its top, and says what may run beside it."""
    assert path.read_text().startswith("# ")
    workflow = read(path)
    assert workflow["permissions"] == {}
    assert "concurrency" in workflow


@pytest.mark.parametrize("job", jobs())
def test_job(job: dict[str, Any]) -> None:
    """A job has a name, says what it may do, and ends in time."""
    assert re.match(r"[A-Z]", job["name"])
    assert "permissions" in job
    assert "uses" in job or job["timeout-minutes"] <= 360


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_lines(path: Path) -> None:
    """Every remote action is pinned by commit with its version beside; every grant has its reason."""
    for line in path.read_text().splitlines():
        if "uses:" in line and "uses: ./" not in line:
            assert PIN.search(line), line
        if re.match(r"\s+[a-z-]+: (read|write)\b", line):
            assert "# to " in line, line


def test_one_version_of_each_action() -> None:
    """An action has one commit everywhere."""
    found = {
        found.groups() for p in FILES for line in p.read_text().splitlines() if (found := PIN.search(line))
    }
    assert len({action for action, _ in found}) == len(found) > 0


@pytest.mark.parametrize("script", scripts())
def test_scripts_hold_no_expression(script: str) -> None:
    """What an event carries reaches a script by its environment, never by being written into it."""
    assert "${{" not in script


@pytest.mark.parametrize("words", loop_commands(), ids=" ".join)
def test_commands_exist(words: list[str]) -> None:
    """Every command that a workflow names exists, with every option it is given."""
    assert words[0] in COMMANDS
    command = cli.get_command(None, words[0])
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known


def test_no_model_is_named() -> None:
    """No workflow names a model: they run over what params.yaml has."""
    models = read(ROOT / "params.yaml")["models"]
    for path in FILES:
        for name in models:
            assert name not in path.read_text()
            assert name.replace("_", "-") not in path.read_text()
