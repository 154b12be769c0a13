"""Where GitHub is and by which token, told by the environment or else by the repository."""

from pathlib import Path

import httpx
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


@pytest.mark.parametrize(("method", "times"), [("GET", 4), ("PATCH", 4), ("POST", 1)])
def test_what_would_be_made_twice_is_not_sent_twice(
    monkeypatch: pytest.MonkeyPatch, method: str, times: int
) -> None:
    """An answer that did not come is asked for again, unless the call may have made something."""
    sent = []

    def request(method: str, url: str, **_: object) -> httpx.Response:
        sent.append(url)
        raise httpx.ReadTimeout("no answer", request=httpx.Request(method, url))

    monkeypatch.setattr(httpx, "request", request)
    monkeypatch.setattr(GitHub._send.retry, "sleep", lambda _: None)
    with pytest.raises(LoopError, match=f"^{method} https://api.test/repos/acme/shop/pulls: .*no answer"):
        GitHub("https://api.test", "acme/shop", "t").call(method, "/pulls")
    assert len(sent) == times
