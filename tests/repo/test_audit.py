"""`make audit` runs its checks in a way that their programs accept."""

import importlib.util
from pathlib import Path

import pytest


@pytest.mark.parametrize("verdict", ["passed", "FAILED"])
def test_each_lock_is_compared_with_advisories_alone(repository, monkeypatch, verdict):
    """pip-audit refuses locks that have two versions of a package; one bad lock fails the audit.

    It is strict: otherwise a package that PyPI does not find, or every one behind a mirror, passes.
    """
    spec = importlib.util.spec_from_file_location("audit", repository / "tools/audit.py")
    audit = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(audit)
    seen = []

    def ran(_: str, program: Path, *words: str) -> str:
        if program.name != "pip-audit":
            return "passed"
        assert "--strict" in words
        seen.append([word.removeprefix("--requirement=") for word in words if word.endswith(".lock")])
        return verdict if len(seen) == 1 else "passed"

    monkeypatch.setattr(audit, "ran", ran)
    assert audit.main(Path("programs"), Path("tools"), online=True) == (0 if verdict == "passed" else 4)
    assert ["requirements.lock"] in seen
    assert all(len(locks) == 1 for locks in seen)
