"""loop.candidate.change selects the tests, models and manifests that a change can break."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.candidate.change import CONTRACT, DOCS, EVERYTHING, PARAMS, TABLE, Changed, broken, changed
from loop.core.git import Git

pytestmark = pytest.mark.sample

SECTIONS = "models:\n  a: {x: 1}\n  b: {x: 1}\n"
LOCK = "schema: '2.0'\nstages:\n  train@a: {cmd: one}\n  train@b: {cmd: one}\n"


def write(clone: Path, path: str, text: str) -> str:
    """Commit one file and return the commit."""
    (clone / path).parent.mkdir(parents=True, exist_ok=True)
    (clone / path).write_text(text)
    git = ["git", "-C", clone, "-c", "user.name=t", "-c", "user.email=t@example.test"]
    subprocess.run([*git, "add", "--all"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--message", path], check=True)
    return Git(clone).head()


@pytest.fixture
def clone(origin: Path) -> Path:
    """Return a clone with two models."""
    clone = origin.parent / "clone"
    write(clone, "params.yaml", SECTIONS)
    write(clone, "dvc.lock", LOCK)
    return clone


OURS = ["a", "b"]
# For each row of change.TABLE: a file, and what it can break (tests, lint, models, manifests).
ROWS = {
    "docs/**": ("docs/a/b.svg", [DOCS], True, [], False),
    "*.md": ("SECURITY.md", [DOCS], True, [], False),
    "params.yaml": ("params.yaml", [PARAMS], False, [], False),  # no model's section differs
    "dvc.lock": ("dvc.lock", [], False, [], False),  # no model's stages differ
    "data/.gitignore": ("data/.gitignore", [], False, [], False),
    "data/{model}/**": ("data/a/metrics.json", [], False, ["a"], False),
    "src/models/{model}/**": ("src/models/b/features.py", [CONTRACT], True, ["b"], False),
    "bentos/{model}/*.lock": ("bentos/b/requirements-cuda.lock", [CONTRACT], False, ["b"], True),
    "bentos/{model}/**": ("bentos/b/asgi.py", [CONTRACT], True, ["b"], False),
    "kustomize/models/*/**": ("kustomize/models/a/patch.yaml", [CONTRACT], False, [], True),
    "kustomize/overlays/*/*/release/**": ("kustomize/overlays/dev/a/release/é.yaml", [], False, [], True),
    "kustomize/overlays/*/*/**": ("kustomize/overlays/dev/a/x.yaml", [CONTRACT], False, [], True),
    "src/loop/core/**": ("src/loop/core/new.py", [EVERYTHING], True, OURS, True),
    "src/loop/stats/**": ("src/loop/stats/bootstrap.py", [EVERYTHING], True, OURS, True),
    "src/loop/pipeline/**": ("src/loop/pipeline/train.py", [EVERYTHING], True, OURS, True),
    "src/loop/candidate/**": ("src/loop/candidate/change.py", [EVERYTHING], True, OURS, True),
    "src/loop/runtime/**": ("src/loop/runtime/uv.lock", [EVERYTHING], True, OURS, True),
    "src/loop/packaging/**": ("src/loop/packaging/bento.py", [EVERYTHING], True, OURS, True),
    "dvc.yaml": ("dvc.yaml", [EVERYTHING], True, OURS, True),
    "requirements.lock": ("requirements.lock", [EVERYTHING], True, OURS, True),
    "kustomize/**": ("kustomize/base/deployment.yaml", [EVERYTHING], True, [], True),
    "argocd/**": ("argocd/projects.yaml", [EVERYTHING], True, [], True),
    "**.lock": ("images/monitor/requirements.lock", [EVERYTHING], True, [], True),
    "**": ("pyproject.toml", [EVERYTHING], True, [], False),
}


def test_every_row_of_the_table_is_tested() -> None:
    """Every row of the table has a file here, so a new row needs one, too."""
    assert list(ROWS) == list(TABLE)


@pytest.mark.parametrize(("path", "tests", "lint", "models", "manifests"), ROWS.values(), ids=ROWS)
def test_a_row_says_what_its_files_can_break(
    path: str, *, tests: list[str], lint: bool, models: list[str], manifests: bool
) -> None:
    """The file of each row selects the tests, lint, models and manifests that it can break."""
    assert broken([path], {"a", "b"}, set()) == Changed(tests, lint, models, manifests)


@pytest.mark.parametrize(
    "path",
    [
        "tests/models/test_source.py",
        "tools/needs",
        ".github/workflows/ci.yml",
        ".github/pull_request_template.md",
        "src/loop_demo/story.py",
        "src/loop/__init__.py",
        "src/models/loose.py",  # in no model's folder
        "bentos/README",
        "data/loose",
        "kustomize/overlays/dev/a",
        "params.yaml.orig",
        "Params.yaml",
        "docs",
        "a/b.md",
        "new\nplace/é.txt",
        "\n",
    ],
)
def test_what_no_row_knows_can_break_everything(path: str) -> None:
    """A file that no other row matches, or that tests and builds use, can break everything."""
    assert broken([path], {"a"}, set()).tests == [EVERYTHING]


@given(st.lists(st.text(st.characters(exclude_characters="\0"), min_size=1), min_size=1))
def test_no_name_falls_through(paths: list[str]) -> None:
    """Git allows any name without a zero byte; each one matches a row, so at least one check runs."""
    assert broken(paths, {"a"}, {"a"}) != Changed([], False, [], False)


def test_a_model_that_params_do_not_name_is_not_judged() -> None:
    """A model that params.yaml no longer names is not evaluated; its remaining files are tested."""
    assert broken(["src/models/gone/features.py"], {"a"}, set()) == Changed([CONTRACT], True, [], False)


@pytest.mark.parametrize(
    ("path", "text", "tests", "models"),
    [
        ("params.yaml", SECTIONS.replace("b: {x: 1}", "b: {x: 2}"), [PARAMS], ["b"]),
        ("params.yaml", SECTIONS + "  # a comment\n", [PARAMS], []),
        ("dvc.lock", LOCK.replace("train@a: {cmd: one}", "train@a: {cmd: two}"), [], ["a"]),
        ("bentos/b/sérvice\n.py", "", [CONTRACT], ["b"]),  # git quotes such a name, unless asked not to
    ],
)
def test_whose_params_or_stages_differ_is_judged(
    clone: Path, path: str, text: str, tests: list[str], models: list[str]
):
    """A model is evaluated if its own section, stages or files differ, but not if another model's do."""
    base = Git(clone).head()
    write(clone, path, text)
    found = changed(clone, base)
    assert (found.tests, found.models) == (tests, models)


def test_what_is_deleted_or_moved_has_changed(clone: Path):
    """A deleted file counts as a change, and a moved one as a change of both its old and its new folder."""
    write(clone, "src/models/a/one.py", "1\n" * 50)
    base = write(clone, "docs/gone.md", "gone")
    git = Git(clone)
    (clone / "src/models/b").mkdir(parents=True)
    git.run("mv", "src/models/a/one.py", "src/models/b/one.py")
    git.run("rm", "docs/gone.md")
    write(clone, "README", "")
    git.run("rm", "README")
    git.run("-c", "user.name=t", "-c", "user.email=t@example.test", "commit", "-m", "gone")
    assert changed(clone, base) == Changed([CONTRACT, DOCS], True, ["a", "b"], manifests=False)


@pytest.mark.parametrize(
    ("path", "tests", "models"),
    [
        ("data/b/metrics.json", [], ["b"]),
        ("docs/architecture.md", [DOCS], []),
        ("src/models/a/schema.py", [CONTRACT], ["a"]),
        ("tests/new.py", [EVERYTHING], []),
    ],
)
def test_every_category_is_checked(path: str, tests: list[str], models: list[str]) -> None:
    """A release state in a pull request is checked, whatever other files the pull request changes."""
    state = "kustomize/overlays/production/a/release/release.yaml"
    found = broken([state, path], {"a", "b"}, set())
    assert (found.tests, found.models, found.manifests) == (tests, models, True)


def test_categories_add_up() -> None:
    """A change of several kinds of files selects the tests of each kind, unless one file needs all tests."""
    paths = ["docs/a.md", "params.yaml", "bentos/b/asgi.py"]
    assert broken(paths, {"a", "b"}, {"a"}) == Changed(
        [CONTRACT, DOCS, PARAMS], True, ["a", "b"], manifests=False
    )
    assert broken([*paths, "Makefile"], {"a"}, {"a"}).tests == [EVERYTHING]


@pytest.mark.parametrize(
    ("tests", "parts", "jobs"),
    [
        ([], 2, []),
        ([DOCS], 2, [("docs", "docs", "", False)]),
        ([CONTRACT, DOCS], 1, [("contract or docs", "contract or docs", "", False)]),
        ([EVERYTHING], 1, [("everything", "", "", True)]),
        ([EVERYTHING], 2, [("1/2", "", "--part 1/2", True), ("2/2", "", "--part 2/2", False)]),
    ],
)
def test_jobs(tests: list[str], parts: int, jobs: list[tuple[Any, ...]]) -> None:
    """Selected markers make one job. The whole suite makes `parts` jobs, and only the first one lints."""
    found = Changed(tests, lint=tests == [EVERYTHING], models=[], manifests=False).jobs(parts)
    assert [tuple(job.values()) for job in found] == jobs


def test_what_the_base_did_since_is_not_this_branchs_change(clone: Path):
    """Commits are compared with the point where they left the base, not with its latest commit."""
    git = Git(clone)
    fork = git.head()
    base = write(clone, "src/loop/core/new.py", "")
    git.run("checkout", "--quiet", "-b", "topic", fork)
    write(clone, "docs/new.md", "text")
    assert changed(clone, base) == Changed([DOCS], lint=True, models=[], manifests=False)


@pytest.mark.parametrize("base", ["0" * 40, "1" * 40, "", "1234567"])
def test_without_a_known_base_everything_has_changed(clone: Path, base: str):
    """If the base is missing or unknown, as for a new branch or after a forced push, all has changed."""
    assert changed(clone, base) == Changed([EVERYTHING], lint=True, models=["a", "b"], manifests=True)


def test_a_base_of_seven_digits_is_a_commit(clone: Path):
    """The base may be a short SHA, as `git log --oneline` prints it."""
    base = Git(clone).head()[:7]
    write(clone, "docs/new.md", "text")
    assert changed(clone, base) == Changed([DOCS], lint=True, models=[], manifests=False)
