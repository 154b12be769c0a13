"""`make audit` itself finds credentials in URLs."""

import importlib.util
import subprocess
from pathlib import Path

import pytest

TYPED = "s3cret"


@pytest.fixture(scope="module")
def audit(repository: Path):
    """Load tools/audit.py, which is a program outside any package."""
    spec = importlib.util.spec_from_file_location("audit", repository / "tools/audit.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        (f"url: https://x:{TYPED}@github.com/zoo/birds.git", "FAILED"),
        (f"store: 'S3://id:{TYPED}$&!@bucket.test/prefix'", "FAILED"),
        (f"postgresql+psycopg://:{TYPED}@[::1]:5432/db", "FAILED"),
        ("https://x:<password>@github.com/zoo/birds.git", "passed"),
        ("https://x:${TOKEN}@github.com/zoo/birds.git", "passed"),
        ("ssh://git@git.zoo.test:2222/zoo/birds.git git@github.com:zoo/birds.git", "passed"),
        ("https://github.com:443/zoo/birds@v1 # mail@zoo.test", "passed"),
    ],
)
def test_a_password_in_a_url_is_found(audit, tmp_path: Path, text: str, verdict: str):
    """A tracked URL with a password fails the audit, which names file and line but not the password."""
    (tmp_path / "a.yaml").write_text(f"# first line\n{text}\n")
    (tmp_path / "b.bin").write_bytes(f"\0https://x:{TYPED}@github.com".encode())
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    subprocess.run(["git", "-C", tmp_path, "add", "--all"], check=True)
    (tmp_path / "untracked").write_text(f"https://x:{TYPED}@github.com")
    found, said = audit.credentials(tmp_path)
    assert found == verdict
    assert ("a.yaml:2: " in said) == (verdict == "FAILED")
    assert TYPED not in said


@pytest.mark.docs
@pytest.mark.contract
@pytest.mark.params
def test_no_tracked_url_holds_a_credential(audit, repository: Path):
    """No tracked file of this repository, tests and documents included, has a URL with a password."""
    assert audit.credentials(repository) == ("passed", "nothing found")
