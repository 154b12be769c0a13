"""Fixtures for the tests of the rules: promtool, and the rules in the form that it reads."""

import shutil
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

Promtool = Callable[..., str]


@pytest.fixture(scope="session")
def spec(repository: Path) -> dict[str, Any]:
    """Return the spec of the PrometheusRule."""
    path = repository / "kustomize" / "platform" / "monitoring" / "rules.yaml"
    return YAML(typ="safe").load(path)["spec"]


@pytest.fixture(scope="session")
def program() -> str:
    """Return promtool's path. Without promtool these tests are skipped, with a warning."""
    if found := shutil.which("promtool"):
        return found
    why = "promtool is missing: apt-get install prometheus"
    warnings.warn(f"the alerts are not tested: {why}", stacklevel=1)
    pytest.skip(why)


@pytest.fixture
def promtool(program: str, spec: dict[str, Any], tmp_path: Path) -> Promtool:
    """Return a function that runs promtool in a folder with rules.yaml, and fails with its output."""
    YAML(typ="safe").dump(spec, tmp_path / "rules.yaml")

    def run(*arguments: str | Path) -> str:
        done = subprocess.run(
            [program, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run
