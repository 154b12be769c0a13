"""The faulty services of demo and e2e pass CI's lint, so a person could merge them."""

import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location

import pytest

PATH = "bentos/card_fraud/asgi.py"


@pytest.mark.parametrize("kind", ["errors", "slow", "wrong scores", "heavy"])
def test_a_spoilt_service_passes_lint(repository, template, kind):
    """Each kind of faulty service passes ruff's check, and has ruff's format."""
    spec = spec_from_file_location("faults", repository / "tests/e2e/faults.py")
    faults = module_from_spec(spec)
    spec.loader.exec_module(faults)
    service = faults.spoilt((template / PATH).read_text(), kind)
    for command in (["check"], ["format", "--check"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--stdin-filename", PATH, "-"]
        done = subprocess.run(
            ruff, cwd=repository, input=service, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
