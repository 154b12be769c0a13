"""promtool, and the rules as it reads them."""

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
    """What the PrometheusRule says: its groups."""
    path = repository / "kustomize" / "platform" / "monitoring" / "rules.yaml"
    return YAML(typ="safe").load(path)["spec"]


@pytest.fixture(scope="session")
def program() -> str:
    """Promtool's path; without one these tests are skipped, and a warning says so."""
    if found := shutil.which("promtool"):
        return found
    why = "promtool is missing: apt-get install prometheus"
    warnings.warn(f"no alert is tested: {why}", stacklevel=1)
    pytest.skip(why)


@pytest.fixture
def promtool(program: str, spec: dict[str, Any], tmp_path: Path) -> Promtool:
    """Runs promtool where rules.yaml holds the rules; what it says is the error."""
    YAML(typ="safe").dump(spec, tmp_path / "rules.yaml")

    def run(*arguments: str | Path) -> str:
        done = subprocess.run(
            [program, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run
