"""The engine can be built as wheels, and a lean fork has the wheels in place of the source."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from loop.core.names import package
from loop.fork.lean import pinned
from loop.fork.template import owned
from loop.version import VERSION

FILES, LINES = 150, 1500  # the most files of a lean fork with one model, and lines of the template's code


KILLED = """
import os, shutil
from pathlib import Path
from loop.fork import lean
copy, left = shutil.copy, iter(range(500))
shutil.copy = lambda *files: copy(*files) if next(left, None) is not None else os._exit(0)
lean.vendor(Path.cwd())
"""


def clone(repository: Path, to: Path) -> Path:
    subprocess.run(["git", "clone", "--quiet", "--shared", repository, to], check=True)
    return to


def built(root: Path) -> Path:
    """Build the wheels of a clone, and return their folder."""
    subprocess.run([root / "tools/wheels"], check=True, capture_output=True)
    return root / "build/wheels"


@pytest.fixture(scope="module")
def wheels(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(clone(repository, tmp_path_factory.mktemp("template") / "clone"))


@pytest.fixture(scope="module")
def site(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Extract the wheels as an installation does, and return the folder."""
    site = tmp_path_factory.mktemp("site")
    for wheel in map(ZipFile, wheels.iterdir()):
        for info in wheel.infolist():
            Path(wheel.extract(info, site)).chmod(info.external_attr >> 16 & 0o777)
    return site


def init(fork: Path, *options: str | Path) -> subprocess.CompletedProcess[str]:
    command = ["./loop", "init", *options]
    return subprocess.run(command, cwd=fork, text=True, capture_output=True, check=False)


def run(site: Path, lean: Path, *arguments: str) -> str:
    """Run a module of the installed engine in a lean fork, and return its output."""
    env = {**os.environ, "PYTHONPATH": f"{site}:{lean}/src", "PYTHONSAFEPATH": "1"}
    command = [sys.executable, *([] if arguments[0] == "-c" else ["-m"]), *arguments]
    done = subprocess.run(command, cwd=lean, env=env, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def lean(repository: Path, wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a fork that has dropped the source and all models but one."""
    lean = clone(repository, tmp_path_factory.mktemp("lean") / "clone")
    kept, *dropped = sorted(path.name for path in (lean / "src/models").iterdir() if path.is_dir())
    for overlay in (lean / "kustomize/overlays").glob("*/*"):
        if package(overlay.name) in dropped:  # `init` refuses to drop a model that the fork serves
            shutil.rmtree(overlay)
    done = init(lean, "--models", kept, "--lean", wheels)
    assert done.returncode == 0, done.stderr
    subprocess.run(["git", "add", "--all"], cwd=lean, check=True)
    return lean


def test_a_commit_gives_the_same_wheels(repository: Path, wheels: Path, tmp_path: Path) -> None:
    """The same commit gives the same wheels in any folder and at any time."""
    again = built(clone(repository, tmp_path / "elsewhere"))
    assert {path.name: path.read_bytes() for path in wheels.iterdir()} == {
        path.name: path.read_bytes() for path in again.iterdir()
    }
    assert {path.name for path in wheels.iterdir()} == {
        f"{name}-{VERSION}-py3-none-any.whl" for name in ("loop", "loop_demo")
    }


def test_a_lean_fork_is_small(lean: Path) -> None:
    """A lean fork has few files, few lines of the template's code, and no source of the engine."""
    listed = subprocess.run(["git", "ls-files"], cwd=lean, text=True, capture_output=True, check=True)
    files = [lean / path for path in listed.stdout.split()]
    assert len(files) <= FILES
    assert not (lean / "src/loop").exists()
    code = [
        path
        for path in files
        if path.suffix in {".py", ".sh"} or (path.parent.name == "tools" and not path.suffix)
    ]
    theirs = [path for path in code if not path.is_relative_to(lean / "src/models")]
    assert sum(len(path.read_text().splitlines()) for path in [*theirs, lean / "Makefile"]) <= LINES


def test_a_lean_fork_locks_the_wheels(lean: Path, wheels: Path) -> None:
    """Each lock of a job that runs the engine pins the wheel by URL and hash; requirements.in names it."""
    for lock in ("requirements.lock", "requirements-gpu.lock", "tools/commit.lock"):
        assert (lean / lock).read_text().count(pinned(str(wheels), "loop")) == 1
    assert (
        f"loop[test] @ {(wheels / f'loop-{VERSION}-py3-none-any.whl').as_uri()}"
        in (lean / "requirements.in").read_text()
    )


def test_a_lean_fork_passes_its_contract(lean: Path, site: Path) -> None:
    """With the installed engine alone, the contract tests and `render --check` pass in a lean fork."""
    assert "passed" in run(site, lean, "pytest", "--pyargs", "loop.contract")
    assert "objects keep to schema and policy" in run(site, lean, "loop", "render", "--check")
    assert "--model" in run(site, lean, "loop", "demo", "--help")


def test_a_lean_fork_has_the_tasks_that_need_no_source(lean: Path) -> None:
    """A lean fork has the same Makefile, but only the tasks that do not need the source."""

    def make(*arguments: str) -> str:
        command = ["make", "--no-print-directory", *arguments]
        return subprocess.run(command, cwd=lean, text=True, capture_output=True, check=True).stdout

    assert re.findall(r"(?m)^  make (\S+)", make()) == [
        *("demo", "format", "help", "lint", "lock", "models", "report", "serve", "setup", "test", "train")
    ]
    assert "-m pytest --pyargs loop.contract" in make("--dry-run", "test-marked")
    make("lint", f"ENV={Path(sys.executable).parents[1]}")
    assert "compile" in make("--dry-run", "lock")
    assert "pyproject.toml" not in make("--dry-run", "lock")


def test_a_change_that_would_be_lost_stops_it(repository: Path, wheels: Path, tmp_path: Path) -> None:
    """A change that would be lost stops the command before any file is dropped."""
    fork = clone(repository, tmp_path / "fork")
    (fork / "src/loop/version.py").write_text("# mine\nVERSION = '9'\n")
    done = init(fork, "--lean", wheels)
    assert (done.returncode, "src/loop/version.py" in done.stderr) == (2, True)
    assert (fork / "tests").is_dir()


def test_a_lean_fork_changes_its_wheels_beside_other_changes(
    lean: Path, wheels: Path, site: Path, tmp_path: Path
) -> None:
    """`init --lean` may run again before a commit, and beside changes of files that it does not delete."""
    fork = tmp_path / "fork"
    shutil.copytree(lean, fork, symlinks=True)
    (fork / "README.md").write_text("mine\n")
    status = ["git", "status", "--short"]
    before = subprocess.run(status, cwd=fork, text=True, capture_output=True, check=True).stdout
    run(site, fork, "loop", "init", "--lean", str(wheels))
    assert subprocess.run(status, cwd=fork, text=True, capture_output=True, check=True).stdout == before
    done = init(fork, "--lean", "https://wheels.test:port")
    assert (done.returncode, "Invalid port: 'port'" in done.stderr) == (2, True), done.stderr


def test_a_lean_fork_is_upgraded_by_a_wheel(
    repository: Path, wheels: Path, lean: Path, site: Path, tmp_path: Path
) -> None:
    """An upgrade changes the pins and the template's files, keeps the team's files, and adds no source."""
    template = clone(repository, tmp_path / "template")
    for path, old, new in (
        ("src/loop/version.py", VERSION, "99.0.0"),
        ("Makefile", "List the tasks", "List all tasks"),
        ("kustomize/base/deployment.yaml", "apiVersion", "# newer\napiVersion"),
        ("src/loop/fork/lean/pyproject.toml", "[tool", "# newer\n[tool"),
    ):
        text = (template / path).read_text()
        assert old in text
        (template / path).write_text(text.replace(old, new, 1))
    for wheel in wheels.iterdir():
        shutil.copy(wheel, built(template))
    fork = tmp_path / "fork"
    shutil.copytree(lean, fork, symlinks=True)
    who = ["-c", "user.name=Ada", "-c", "user.email=ada@example.test"]
    subprocess.run(["git", *who, "commit", "--quiet", "--message", "Lean"], cwd=fork, check=True)
    for setting in who[1::2]:
        subprocess.run(["git", "config", *setting.split("=")], cwd=fork, check=True)
    same = str(wheels / f"loop-{VERSION}-py3-none-any.whl")
    assert "nothing to do: this fork has all of" in run(site, fork, "loop", "upgrade", "--to", same)
    to = template / "build/wheels/loop-99.0.0-py3-none-any.whl"
    said = run(site, fork, "loop", "upgrade", "--no-check", "--to", str(to))

    def at(path: str) -> str:
        show = ["git", "show", f"upgrade-99.0.0:{path}"]
        return subprocess.run(show, cwd=fork, text=True, capture_output=True, check=True).stdout

    diff = ["git", "diff", "--name-only", "HEAD", "upgrade-99.0.0"]
    changed = subprocess.run(diff, cwd=fork, text=True, capture_output=True, check=True).stdout.split()
    locks = ["requirements-gpu.lock", "requirements.in", "requirements.lock", "tools/commit.lock"]
    assert changed == ["Makefile", "kustomize/base/deployment.yaml", "pyproject.toml", *locks], said
    assert re.search("migrated +requirements.in", said), said
    assert "List all tasks" in at("Makefile")
    for lock in locks:
        assert (f"loop-{VERSION}-" in at(lock), "loop-99.0.0-py3" in at(lock)) == (False, True), lock


def test_a_lean_fork_gets_the_source_back(repository: Path, lean: Path, site: Path, tmp_path: Path) -> None:
    """`init --vendor` restores the bytes and mode of each file of the template, including the locks.

    So it does after it was killed.
    """
    fork = tmp_path / "fork"
    shutil.copytree(lean, fork, symlinks=True)
    run(site, fork, "-c", KILLED)
    run(site, fork, "loop", "init", "--vendor")
    listed = ["git", "ls-tree", "-r", "--name-only", "HEAD"]
    names = subprocess.run(listed, cwd=repository, text=True, capture_output=True, check=True).stdout.split()
    template = clone(repository, tmp_path / "template")
    for path in (name for name in names if owned(name, vendored=True)):
        before, after = template / path, fork / path
        assert after.read_bytes() == before.read_bytes(), path
        assert os.access(after, os.X_OK) == os.access(before, os.X_OK), path
