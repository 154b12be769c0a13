"""loop.diagnosis: what the doctor says of a clone's remote, and of its settings at GitHub."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from standin import ROOT, Server, StandIn

from loop import diagnosis
from loop.core import repository
from loop.core.repository import Repository

TYPED = "s3cret"


@pytest.mark.parametrize(
    ("default", "state", "found", "fix"),
    [
        ("main", "ok", "main", ""),
        ("master", "bad", "master; workflows and Argo CD follow main", "branches/master/rename"),
        (None, "default", "empty", "git push origin HEAD:main"),
        ("gone", "default", "did not answer", "git ls-remote origin"),
    ],
)
def test_default_branch(tmp_path: Path, default: str | None, state: str, found: str, fix: str) -> None:
    """A remote whose default branch is not the one that everything follows is bad, with how to rename it."""
    origin, clone = tmp_path / "origin.git", tmp_path / "clone"
    git = ("git", "-c", "user.name=t", "-c", "user.email=t@example.test")
    subprocess.run([*git, "init", "-q", "--bare", "-b", default or "main", origin], check=True)
    subprocess.run([*git, "clone", "-q", origin, clone], check=True, capture_output=True)
    if default:
        subprocess.run([*git, "-C", clone, "commit", "-q", "--allow-empty", "-m", "begin"], check=True)
        subprocess.run([*git, "-C", clone, "push", "-q", "origin", f"HEAD:{default}"], check=True)
    if default == "gone":
        shutil.rmtree(origin)
    said = diagnosis._branch(clone)
    assert (said.state, found in said.found, fix in said.fix) == (state, True, True), said


@pytest.mark.parametrize(
    ("url", "state"),
    [
        (f"https://x:{TYPED}@github.com/zoo/birds.git", "ok"),
        ("git@github.com:zoo/birds.git", "ok"),
        (f"https://x:{TYPED}@github.com/zoo/fish.git", "bad"),
    ],
)
def test_origin(tmp_path: Path, url: str, state: str) -> None:
    """Origin is the repository that Argo CD follows; a token in its URL is not shown."""
    clone = tmp_path / "clone"
    (clone / "argocd").mkdir(parents=True)
    (clone / repository.PATH).write_text("data: {}\n")
    own = Repository(name="birds", url="https://github.com/zoo/birds.git", registry="ghcr.io/zoo")
    repository.write(clone, own)
    subprocess.run(["git", "init", "-q", clone], check=True)
    subprocess.run(["git", "-C", clone, "remote", "add", "origin", url], check=True)
    said = diagnosis._origin(clone)
    assert said.state == state
    assert TYPED not in said.found + said.fix


PULLS = {
    "type": "pull_request",
    "ruleset_id": 1,
    "ruleset_source": "acme/r",
    "ruleset_source_type": "Repository",
}
OFF = {"required_approving_review_count": 1, "required_review_thread_resolution": False}
REVIEW = {**OFF, **dict.fromkeys(diagnosis.REVIEW, True)}
IN_ENVIRONMENT = {"PUSH_KEY": "k"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    found = Server(
        *(tmp_path_factory.mktemp("github"), "--at-once", "0", "--act", "false"),
        *("--repository", "acme/r", "--secret", "STORES_READ=r"),
    )
    yield found
    found.stop()


@pytest.fixture
def settings(server: Server, monkeypatch: pytest.MonkeyPatch) -> Callable[..., object]:
    """Sets a repository up, at which this process's token is its owner's."""
    there = {"LOOP_GITHUB_API_URL": server.url, "GITHUB_REPOSITORY": "acme/r"}
    for name, value in {**there, "GITHUB_TOKEN": server.tokens["person"]}.items():
        monkeypatch.setenv(name, value)
    return lambda **what: StandIn(server, "acme/r").own("POST", "_settings/acme/r", what)


@pytest.mark.parametrize(
    ("environment", "organization", "state", "found"),
    [
        (None, [], "default", "none"),
        ({"branches": None, "secrets": {}}, [], "default", "none"),  # GitHub has made it when a job named it
        ({"branches": ["main"], "secrets": IN_ENVIRONMENT}, [], "ok", "in main-only, for main alone"),
        (
            {"branches": None, "secrets": IN_ENVIRONMENT},
            [],
            "bad",
            "main-only, which has PUSH_KEY, is open to any branch",
        ),
        ({"branches": ["main", "*"], "secrets": IN_ENVIRONMENT}, [], "bad", "open to main, *"),
        ({"branches": None, "secrets": {"STORES_READ": "r"}}, [], "default", "none"),
        ({"branches": ["main"], "secrets": IN_ENVIRONMENT}, ["STORES"], "bad", "STORES can be read"),
    ],
)
def test_secrets_of_who_writes(
    settings: Callable[..., object], environment: Any, organization: list[str], state: str, found: str
) -> None:
    """They are fine in an environment that is limited to main, and nowhere else; not so STORES_READ."""
    held = {"main-only": environment} if environment else {}
    settings(environments=held, organization_secrets=organization)
    said = diagnosis._secrets(ROOT)
    assert (said.state, found in said.found, "docs/protection.md" in said.fix) == (
        state,
        True,
        state != "ok",
    ), said


@pytest.mark.parametrize(
    ("rules", "state", "found"),
    [
        ([], "default", "no ruleset asks for pull requests"),
        ([{**PULLS, "parameters": REVIEW}], "ok", "of the latest push"),
        *(
            ([{**PULLS, "parameters": {**REVIEW, key: False}}], "bad", said)
            for key, said in diagnosis.REVIEW.items()
        ),
    ],
)
def test_review(settings: Callable[..., object], rules: list[Any], state: str, found: str) -> None:
    """What is merged is what was approved: a ruleset without one of the three says which."""
    settings(rules=rules)
    said = diagnosis._review(ROOT)
    assert (said.state, found in said.found) == (state, True), said


def test_without_a_token_it_says_that_it_has_not_looked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither is called fine."""
    monkeypatch.delenv("GITHUB_TOKEN", raising=False)
    for said in (diagnosis._secrets(ROOT), diagnosis._review(ROOT)):
        assert (said.state, said.found.startswith("not checked: ")) == ("default", True), said
