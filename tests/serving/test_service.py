"""The packages that a team's service takes into production."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pip_requirements_parser import RequirementsFile

pytestmark = pytest.mark.contract
TRAINING = ["ibis", "duckdb", "great_expectations", "mlflow", "dvc", "pandas"]
BENTOS = sorted(path.parent.name for path in Path(__file__).parents[2].glob("bentos/*/service.py"))


@pytest.mark.parametrize("package", BENTOS)
def test_importing_the_service_loads_nothing_of_the_training_stack(repository, tmp_path, package):
    """A new interpreter that imports the service loads none of them, although they are installed here."""
    code = f"import service, sys; print([m for m in {TRAINING} if m in sys.modules])"
    bento = repository / "bentos" / package
    shutil.copy(repository / "src" / "models" / package / "scorer.py", tmp_path)
    env = {"PYTHONPATH": f"{repository / 'src'}:{bento}:{tmp_path}"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, cwd=bento, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("package", BENTOS)
def test_the_lock_is_a_hashed_subset_of_what_trains(repository, package):
    """Each has hashes and the version of the repository's or the model's lock; none is for training."""
    everything = pins(repository / "requirements.lock")
    if (own := repository / "src" / "models" / package / "requirements.lock").exists():
        everything |= pins(own)
    packed = pins(repository / "bentos" / package / "requirements.lock")
    assert packed <= everything
    assert not {name.replace("_", "-") for name in TRAINING} & {name for name, _ in packed}


def pins(lock):
    """Return the names and versions of a lock, after checking that each has a hash."""
    requirements = RequirementsFile.from_file(str(lock)).requirements
    assert all(requirement.is_pinned and requirement.hash_options for requirement in requirements)
    return {(requirement.name, requirement.get_pinned_version) for requirement in requirements}
