"""CI selects tests by `--part`, and by the markers of loop.candidate.change."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

MARKED = "import pytest\n\n@pytest.mark.{}\ndef test_a():\n    pass\n\ndef test_b():\n    pass\n"
FILES = {
    "a/test_1.py": MARKED.format("contract"),
    "a/test_2.py": "def test_a():\n    pass\n",
    "b/test_3.py": MARKED.format("docs"),
    "b/test_4.py": "def test_a():\n    pass\n" * 3,
    "c/test_5.py": "def test_a():\n    pass\n",
}


@pytest.fixture
def suite(tmp_path: Path, repository: Path) -> Path:
    """Write a small test suite with this suite's conftest.py."""
    (tmp_path / "conftest.py").write_text((repository / "tests/conftest.py").read_text())
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def collect(suite: Path, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "--collect-only", "--import-mode=importlib", *args]
    env = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": ":".join(sys.path)}
    return subprocess.run(command, cwd=suite, env=env, capture_output=True, text=True, check=False)


def collected(suite: Path, *args: str) -> list[str]:
    """Return the tests that pytest would run."""
    done = collect(suite, *args)
    assert done.returncode == pytest.ExitCode.OK, done.stdout
    return [line for line in done.stdout.splitlines() if "::" in line]


def test_the_parts_together_are_the_whole(suite: Path) -> None:
    """Each test is in exactly one part, together with all tests of its file."""
    whole, parts = collected(suite), [collected(suite, f"--part={part}/2") for part in (1, 2)]
    assert {name.partition("::")[0] for name in whole} == set(FILES)
    assert sorted(parts[0] + parts[1]) == sorted(whole)
    files = [{name.partition("::")[0] for name in part} for part in parts]
    assert [len(part) for part in files] == [3, 2]
    assert not files[0] & files[1]


@pytest.mark.parametrize("part", ["0/2", "3/2", "1/0", "1", "one"])
def test_a_part_that_does_not_exist_is_refused(suite: Path, part: str) -> None:
    """A `--part` that does not exist is an error, so that a typing error skips no test."""
    done = collect(suite, f"--part={part}")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert f"{part} is no part" in done.stderr


def test_only_files_with_the_marker_are_imported(suite: Path) -> None:
    """`-m MARKER` does not import files without the marker; a negated or empty expression imports all."""
    (suite / "c/conftest.py").write_text("import nowhere")
    (suite / "a/test_2.py").write_text("import nowhere")
    assert collected(suite, "-m", "contract") == ["a/test_1.py::test_a"]
    assert collected(suite, "-m", "contract or docs") == ["a/test_1.py::test_a", "b/test_3.py::test_a"]
    for every in ("not docs", ""):
        done = collect(suite, "-m", every)
        assert "No module named 'nowhere'" in done.stdout + done.stderr


def test_slow_files_come_first(suite: Path) -> None:
    """Files run in the order of their timeouts, longest first, and a file's tests stay together."""
    marks = {"a/test_2.py": "slow", "b/test_4.py": "timeout(900)"}
    for name, mark in marks.items():
        (suite / name).write_text(
            f"import pytest\n\n@pytest.mark.{mark}\ndef test_a():\n    pass\n\ndef test_b():\n    pass\n"
        )
    assert collected(suite)[:4] == [
        f"{name}::{test}" for name in ("b/test_4.py", "a/test_2.py") for test in ("test_a", "test_b")
    ]


def test_the_sample_has_tests_of_every_folder(repository: Path) -> None:
    """The sample, which CI under act runs, has tests of every folder, so that a failing import is noticed."""
    folders = {path.parent for path in repository.glob("tests/*/test_*.py")}
    sampled = {
        path.parent for path in repository.glob("tests/*/test_*.py") if "mark.sample" in path.read_text()
    }
    assert {path.name for path in folders - sampled} == {
        "e2e",
        "first_week",
        "services",
    }  # which `make test` does not run
