"""loop.candidate.change."""

import subprocess
from pathlib import Path

import pytest

from loop.candidate.change import Changed, changed
from loop.core.git import Git

PARAMS = "models:\n  a: {x: 1}\n  b: {x: 1}\n"
LOCK = "schema: '2.0'\nstages:\n  train@a: {cmd: one}\n  train@b: {cmd: one}\n"


def write(clone: Path, path: str, text: str) -> str:
    """Commit one file; returns the commit."""
    (clone / path).parent.mkdir(parents=True, exist_ok=True)
    (clone / path).write_text(text)
    git = ["git", "-C", clone, "-c", "user.name=t", "-c", "user.email=t@example.test"]
    subprocess.run([*git, "add", "--all"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--message", path], check=True)
    return Git(clone).head()


@pytest.fixture
def clone(origin: Path) -> Path:
    """A clone with two models."""
    clone = origin.parent / "clone"
    write(clone, "params.yaml", PARAMS)
    write(clone, "dvc.lock", LOCK)
    return clone


@pytest.mark.parametrize(
    ("path", "text", "code", "models", "manifests"),
    [
        ("params.yaml", PARAMS.replace("b: {x: 1}", "b: {x: 2}"), False, ["b"], False),
        ("params.yaml", PARAMS + "  # a comment\n", False, [], False),
        ("dvc.lock", LOCK.replace("train@a: {cmd: one}", "train@a: {cmd: two}"), False, ["a"], False),
        ("data/a/metrics.json", "{}", False, ["a"], False),
        ("docs/architecture.md", "text", False, [], False),
        ("kustomize/overlays/production/a/release/release.yaml", "spec: {}", False, [], True),
        ("kustomize/overlays/production/a/kustomization.yaml", "", True, [], True),
        ("argocd/projects.yaml", "", True, [], True),
        ("images/monitor/requirements.lock", "", True, [], True),
        ("bentos/b/requirements.lock", "", True, ["b"], True),
        ("src/models/b/features.py", "", True, ["b"], False),
        ("bentos/b/service.py", "", True, ["b"], False),
        ("bentos/b/sérvice\n.py", "", True, ["b"], False),  # git quotes such a name, unless asked not to
        ("kustomize/overlays/production/a/release/é.yaml", "", False, [], True),
        ("src/models/gone/features.py", "", True, [], False),  # a folder that params.yaml does not name
        ("src/loop/delivery/state.py", "", True, [], False),
        ("src/loop/pipeline/train.py", "", True, ["a", "b"], True),
        ("dvc.yaml", "", True, ["a", "b"], True),
    ],
)
def test_a_path_says_what_it_changes(
    clone: Path, path: str, text: str, *, code: bool, models: list[str], manifests: bool
):
    """Each kind of file asks for tests, for models to be judged, for manifests to be checked, or for none."""
    base = Git(clone).head()
    write(clone, path, text)
    assert changed(clone, base) == Changed(code=code, models=models, manifests=manifests)


@pytest.mark.parametrize(
    ("path", "text", "models"),
    [
        ("params.yaml", PARAMS.replace("b: {x: 1}", "b: {x: 2}"), ["b"]),
        ("dvc.lock", LOCK.replace("train@a: {cmd: one}", "train@a: {cmd: two}"), ["a"]),
        ("docs/architecture.md", "text", []),
    ],
)
def test_every_category_is_checked(clone: Path, path: str, text: str, models: list[str]):
    """A release state that was edited by hand is checked, whatever else the same pull request changes."""
    base = Git(clone).head()
    write(clone, "kustomize/overlays/production/a/release/release.yaml", "spec: {}")
    write(clone, path, text)
    assert changed(clone, base) == Changed(code=False, models=models, manifests=True)


def test_what_the_base_did_since_is_not_this_branchs_change(clone: Path):
    """Commits are compared with where they left the base, not with where it is by now."""
    git = Git(clone)
    fork = git.head()
    base = write(clone, "src/loop/core/new.py", "")
    git.run("checkout", "--quiet", "-b", "topic", fork)
    write(clone, "docs/new.md", "text")
    assert changed(clone, base) == Changed(code=False, models=[], manifests=False)


@pytest.mark.parametrize("base", ["0" * 40, "1" * 40, "", "1234567"])
def test_without_a_known_base_everything_has_changed(clone: Path, base: str):
    """GitHub names zeros before the first push of a branch, and a lost commit after a forced one."""
    assert changed(clone, base) == Changed(code=True, models=["a", "b"], manifests=True)


def test_a_base_of_seven_digits_is_a_commit(clone: Path):
    """As people and `git log --oneline` name one."""
    base = Git(clone).head()[:7]
    write(clone, "docs/new.md", "text")
    assert changed(clone, base, Git(clone).head()[:7]) == Changed(code=False, models=[], manifests=False)
