"""Where GitHub is and by which token, told by the environment or else by the repository."""

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from loop.core.errors import LoopError
from loop.core.github import GitHub, authorized


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "argocd").mkdir()
    named = {"name": "loop", "url": "https://git.acme.test/acme/loop.git", "registry": "registry.test"}
    YAML().dump({"data": named}, tmp_path / "argocd" / "repository.yaml")
    return tmp_path


def test_the_repository_says_what_the_environment_does_not(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Name and API follow from its URL, unless a variable says otherwise; a token never does."""
    with pytest.raises(LoopError, match=r"^GITHUB_TOKEN not set"):
        GitHub.of_environment(root)
    monkeypatch.setenv("GITHUB_TOKEN", "t")
    assert GitHub.of_environment(root) == GitHub("https://git.acme.test/api/v3", "acme/loop", "t")
    monkeypatch.setenv("LOOP_GITHUB_API_URL", "http://127.0.0.1:1/")
    monkeypatch.setenv("GITHUB_REPOSITORY", "team/shop")
    assert GitHub.of_environment(root) == GitHub("http://127.0.0.1:1", "team/shop", "t")


def test_a_rotated_token_is_taken_up(root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The file of a mounted secret is read at each use, and goes before the variable."""
    monkeypatch.setenv("GITHUB_TOKEN", "t")
    monkeypatch.setenv("GITHUB_TOKEN_FILE", str(tmp_path / "token"))
    with pytest.raises(LoopError, match="GITHUB_TOKEN_FILE"):
        GitHub.of_environment(root)
    for secret in ("one", "two"):
        (tmp_path / "token").write_text(f"{secret}\n")
        assert GitHub.of_environment(root).token == secret


def test_git_shows_the_token_to_one_server_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes as a header by the environment, beside what that configures already; without one, nothing."""
    assert authorized("https://git.acme.test") == {}
    monkeypatch.setenv("GITHUB_TOKEN", "t")
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    assert authorized("https://git.acme.test") == {
        "GIT_CONFIG_COUNT": "2",
        "GIT_CONFIG_KEY_1": "http.https://git.acme.test/.extraHeader",
        "GIT_CONFIG_VALUE_1": "Authorization: Basic eC1hY2Nlc3MtdG9rZW46dA==",
    }
