"""A repository with a model that the real pipeline trains once per session; each test gets its own clone.

Import the fixtures by name in a folder's conftest.py: `from trained import trained, trained_once`.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import here
import pytest
from filelock import FileLock
from ruamel.yaml import YAML

from loop.core import edited, params, release_state
from loop.core.dvc import Lock
from loop.core.git import Git
from loop.core.names import public
from loop.fork import folders

REPOSITORY = Path(__file__).resolve().parents[2]
MODELS = REPOSITORY / "tests" / "models"
MODEL, PACKAGE = "card-fraud", "card_fraud"
# Files of a fork's own models, which the tests leave out.
A_FORKS = re.compile(
    r"(src/models|bentos|kustomize/models|kustomize/overlays/[^/]+)/[^/]+/|tests/models/[^/]+/test_|data/|dvc\.lock$"
)
TRAINED = re.compile(r"data/|dvc\.lock$")
# All tests that train again use these params, so that after the first time DVC's run cache has the outputs.
OTHERWISE = {"train__n_estimators": 30}


def once(tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """Return the folder `name` after `make` has filled it, once for all workers of a session; read only."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # shared by all workers of one session
    made, complete = base / name, base / f"{name}.complete"
    with FileLock(base / f"{name}.lock"):
        if not complete.exists():
            shutil.rmtree(made, ignore_errors=True)
            made.mkdir()
            make(made)
            complete.touch()
    return made


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with `origin.git`, its `clone` after `./loop repro`, and DVC's `cache`; read only."""
    return once(tmp_path_factory, "trained", _make)


@pytest.fixture
def trained(trained_once: Path, tmp_path: Path) -> Path:
    """Return a clone with a trained model and its own origin; DVC's cache is shared with other tests."""
    return copy(trained_once, tmp_path)


def copy(made: Path, to: Path) -> Path:
    """Copy origin and clone to a folder, and return the clone."""
    run("cp", "-a", str(made / "origin.git"), str(made / "clone"), str(to), cwd=to)
    run("git", "remote", "set-url", "origin", str(to / "origin.git"), cwd=to / "clone")
    return to / "clone"


def run(*args: str, cwd: Path, code: int = 0, **env: str) -> str:
    """Run a program outside any workflow, check its exit code, and return its output."""
    out = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    done = subprocess.run(args, cwd=cwd, env=outside(**env), check=False, **out)
    assert done.returncode == code, f"{args} ended with {done.returncode}:\n{done.stdout}"
    return done.stdout


def outside(**env: str) -> dict[str, str]:
    """Return the environment of a program outside any workflow, with additions."""
    inner = ("GITHUB_", "MLFLOW_")
    return {**{name: value for name, value in os.environ.items() if not name.startswith(inner)}, **env}


def loop(root: Path, *args: str, code: int = 0, **env: str) -> str:
    """Run a command of a clone in this process, check its exit code, and return its output."""
    ended, printed = here.command(root, *args, **env)
    assert ended == code, f"./loop {args} ended with {ended}:\n{printed}"
    return printed


def change(root: Path, **sections: object) -> None:
    """Set keys of the model's params; `train__max_depth=3` sets train.max_depth."""
    keys = {f"models.card_fraud.{key.replace('__', '.')}": value for key, value in sections.items()}
    params.edit(root, keys)


def commit(root: Path, message: str) -> str:
    """Commit all files that Git does not ignore, push to origin's main, and return the commit."""
    run("git", "add", "--all", cwd=root)
    run("git", "commit", "--quiet", "--message", message, cwd=root)
    run("git", "push", "--quiet", "origin", "HEAD:main", cwd=root)
    return Git(root).head()


def release(
    root: Path, key: str = "0123456789ab", environment: str = "production", **other: str
) -> release_state.Track:
    """Commit a release of this clone's model as stable, with `other` fields, and return its track."""
    lock = Lock.of(root)
    facts = {
        "model_md5": lock.model_md5(MODEL),
        "data_md5": lock.md5(MODEL, "raw.parquet"),
        "commit": Git(root).head(),
    }
    track = release_state.Track(
        key=key,
        image=f"registry.example/{MODEL}@sha256:{'0' * 64}",
        weight=100,
        mlflow=f"{MODEL}/1",
        bento=f"card_fraud:{key}",
        **{**facts, **other},
    )
    for path, text in release_state.files(release_state.State(stable=track), environment, MODEL).items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    commit(root, f"Release {key} to {environment}")
    return track


def _make(made: Path) -> None:
    """Copy this work tree with its uncommitted changes into a clone with its own remote, and train there."""
    clone = made / "clone"
    clone.mkdir(parents=True)
    run("git", "init", "--quiet", "--bare", "--initial-branch=main", str(made / "origin.git"), cwd=made)
    run("git", "init", "--quiet", "--initial-branch=main", cwd=clone)
    for name, value in (("user.name", "t"), ("user.email", "t@example.test")):
        run("git", "config", name, value, cwd=clone)
    run("git", "remote", "add", "origin", str(made / "origin.git"), cwd=clone)
    work_tree(clone)
    (clone / ".dvc" / "config.local").write_text(
        f"[cache]\n    dir = {made / 'cache'}\n    type = reflink,hardlink,copy\n"
    )
    commit(clone, "Begin")
    loop(clone, "repro", MODEL)
    commit(clone, "Train")
    for repository in (clone, made / "origin.git"):
        run("git", "gc", "--quiet", cwd=repository)  # each test copies it, which is faster with fewer files


def work_tree(to: Path) -> None:
    """Copy this work tree, with the tests' model in place of the fork's models."""
    _copied(to, A_FORKS)
    with edited.rewriting(to / params.FILE) as document:
        document["models"].clear()
    add(to, PACKAGE)


def untrained(to: Path) -> None:
    """Copy this work tree with all of its models, untrained."""
    _copied(to, TRAINED)


def only(to: Path, model: str) -> None:
    """Copy this work tree with one of its models, untrained and unreleased."""
    untrained(to)
    for release in to.glob("kustomize/overlays/*/*/release"):
        _release_nothing(to, release)
    folders.drop(to, folders.unwanted(to, [model]))


def _copied(to: Path, but: re.Pattern[str]) -> None:
    """Copy this work tree with its uncommitted changes, but without ignored files and the paths in `but`."""
    listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=REPOSITORY)
    for name in filter(None, listed.split("\0")):
        source, target = REPOSITORY / name, to / name
        if source.is_file() and not but.match(name):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)


def _release_nothing(root: Path, release: Path) -> None:
    """Write an overlay's release folder like that of a new model."""
    model, environment = release.parent.name, release.parent.parent.name
    release.mkdir(exist_ok=True)
    for path, text in release_state.files(release_state.State(), environment, model).items():
        (root / path).write_text(text)


def add(root: Path, model: str) -> None:
    """Add one of the models of tests/models to a work tree, unreleased."""
    ignored = shutil.ignore_patterns(params.FILE, "__pycache__")
    shutil.copytree(MODELS / model, root, dirs_exist_ok=True, ignore=ignored)
    for name in ("requirements.in", "requirements.lock"):
        shutil.copy(MODELS / name, root / "bentos" / model)
    for overlay in root.glob(f"kustomize/overlays/*/{public(model)}"):
        _release_nothing(root, overlay / "release")
    with edited.rewriting(root / params.FILE) as document:
        document["models"] |= YAML().load((MODELS / model / params.FILE).read_text())
