"""A small world, trained once a session by the real pipeline; each test gets a clone of its own.

Import the fixture by name in a room's conftest.py: `from trained import trained, trained_once`.
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
# What a fork's models are in its clone: none of the tests'.
A_FORKS = re.compile(
    r"(src/models|bentos|kustomize/models|kustomize/overlays/[^/]+)/[^/]+/|tests/models/[^/]+/test_|data/|dvc\.lock$"
)
TRAINED = re.compile(r"data/|dvc\.lock$")
# The one other training that tests ask for: after the first time, DVC's run cache has its outputs.
OTHERWISE = {"train__n_estimators": 30}


def once(tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """The folder `name` that `make` has filled, once for all workers of a session: read only."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # all workers of one session share it
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
    """The folder of `origin.git`, its `clone` after `./loop repro`, and their DVC `cache`: read only."""
    return once(tmp_path_factory, "trained", _make)


@pytest.fixture
def trained(trained_once: Path, tmp_path: Path) -> Path:
    """A clone with a trained model, its origin beside it; DVC's cache is shared with other tests."""
    return copy(trained_once, tmp_path)


def copy(made: Path, to: Path) -> Path:
    """Copy origin and clone to a folder; returns the clone."""
    run("cp", "-a", str(made / "origin.git"), str(made / "clone"), str(to), cwd=to)
    run("git", "remote", "set-url", "origin", str(to / "origin.git"), cwd=to / "clone")
    return to / "clone"


def run(*args: str, cwd: Path, code: int = 0, **env: str) -> str:
    """Run a program as outside of any workflow; returns what it printed, and insists on its exit code."""
    out = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    done = subprocess.run(args, cwd=cwd, env=outside(**env), check=False, **out)
    assert done.returncode == code, f"{args} ended with {done.returncode}:\n{done.stdout}"
    return done.stdout


def outside(**env: str) -> dict[str, str]:
    """The environment of a program that no workflow runs, with additions."""
    inner = ("GITHUB_", "MLFLOW_")
    return {**{name: value for name, value in os.environ.items() if not name.startswith(inner)}, **env}


def loop(root: Path, *args: str, code: int = 0, **env: str) -> str:
    """Run a command of a clone in this process, check its exit code, and return what it printed."""
    ended, printed = here.command(root, *args, **env)
    assert ended == code, f"./loop {args} ended with {ended}:\n{printed}"
    return printed


def change(root: Path, **sections: object) -> None:
    """Set keys of the model's params; `train__max_depth=3` is train.max_depth."""
    keys = {f"models.card_fraud.{key.replace('__', '.')}": value for key, value in sections.items()}
    params.edit(root, keys)


def commit(root: Path, message: str) -> str:
    """Commit all that is not ignored and push it to origin's main."""
    run("git", "add", "--all", cwd=root)
    run("git", "commit", "--quiet", "--message", message, cwd=root)
    run("git", "push", "--quiet", "origin", "HEAD:main", cwd=root)
    return Git(root).head()


def release(
    root: Path, key: str = "0123456789ab", environment: str = "production", **other: str
) -> release_state.Track:
    """Commit a release state whose stable track is this clone's model, or what `other` says."""
    lock = Lock.of(root)
    facts = {"model_md5": lock.model_md5(MODEL), "data_md5": lock.data_md5(MODEL), "commit": Git(root).head()}
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
    """Clone this work tree, uncommitted changes and all, into a remote of its own, and train in it."""
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
        run("git", "gc", "--quiet", cwd=repository)  # each test copies it: few files are copied sooner


def work_tree(to: Path) -> None:
    """Copy this work tree with the tests' own model in place of a fork's."""
    _copied(to, A_FORKS)
    with edited.rewriting(to / params.FILE) as document:
        document["models"].clear()
    add(to, PACKAGE)


def untrained(to: Path) -> None:
    """Copy this work tree with all of its models, and with nothing trained."""
    _copied(to, TRAINED)


def only(to: Path, model: str) -> None:
    """Copy this work tree with one of its models, with nothing trained or released."""
    untrained(to)
    for release in to.glob("kustomize/overlays/*/*/release"):
        _release_nothing(to, release)
    folders.keep(to, [model])


def _copied(to: Path, but: re.Pattern[str]) -> None:
    """Copy this work tree, uncommitted changes and all, but for some paths and what Git ignores."""
    listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=REPOSITORY)
    for name in filter(None, listed.split("\0")):
        source, target = REPOSITORY / name, to / name
        if source.is_file() and not but.match(name):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)


def _release_nothing(root: Path, release: Path) -> None:
    """Write an overlay's release folder as a new model has it."""
    model, environment = release.parent.name, release.parent.parent.name
    release.mkdir(exist_ok=True)
    for path, text in release_state.files(release_state.State(), environment, model).items():
        (root / path).write_text(text)


def add(root: Path, model: str) -> None:
    """Add one of the models of tests/models to a work tree, with nothing released."""
    ignored = shutil.ignore_patterns(params.FILE, "__pycache__")
    shutil.copytree(MODELS / model, root, dirs_exist_ok=True, ignore=ignored)
    for name in ("requirements.in", "requirements.lock"):
        shutil.copy(MODELS / name, root / "bentos" / model)
    for overlay in root.glob(f"kustomize/overlays/*/{public(model)}"):
        _release_nothing(root, overlay / "release")
    with edited.rewriting(root / params.FILE) as document:
        document["models"] |= YAML().load((MODELS / model / params.FILE).read_text())
