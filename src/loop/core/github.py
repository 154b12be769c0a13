"""The few REST calls of GitHub that the loop uses, at GitHub's own paths."""

import base64
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import httpx
from tenacity import retry, retry_if_exception, stop_after_attempt, wait_random_exponential

from loop.core import repository
from loop.core.errors import LoopError

PAGE = 100  # entries at a time, the most that GitHub gives


class GitHubError(LoopError):
    """GitHub answered with an error; the message is its own."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def token() -> str:
    """The token in the file GITHUB_TOKEN_FILE, where a secret is mounted that may rotate; or GITHUB_TOKEN."""
    if path := os.environ.get("GITHUB_TOKEN_FILE"):
        try:
            return Path(path).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise LoopError(f"GITHUB_TOKEN_FILE: {error}", fix="mount the secret there") from error
    return os.environ.get("GITHUB_TOKEN", "")


def authorized(server: str) -> dict[str, str]:
    """The environment in which git shows the token to `server`, and to no other: not in argv, not on disk."""
    if not (secret := token()):
        return {}
    said = base64.b64encode(f"x-access-token:{secret}".encode()).decode()
    count = int(os.environ.get("GIT_CONFIG_COUNT", "0"))
    return {
        "GIT_CONFIG_COUNT": str(count + 1),
        f"GIT_CONFIG_KEY_{count}": f"http.{server}/.extraHeader",
        f"GIT_CONFIG_VALUE_{count}": f"Authorization: Basic {said}",
    }


def _may_be_sent_again(error: BaseException) -> bool:
    """Whether a call failed on the way; a POST that may have come there would make two of what it makes."""
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return True
    return isinstance(error, httpx.TransportError) and error.request.method != "POST"


@dataclass(frozen=True)
class GitHub:
    """One repository at one server; `url` is the API's, as GITHUB_API_URL names it."""

    url: str
    repository: str  # owner/name
    token: str

    @classmethod
    def of_environment(cls, root: Path | None = None) -> "GitHub":
        """From GITHUB_REPOSITORY, the token and the API's URL (act sets its own, so LOOP_ goes first).

        What is not set there follows from the URL of the repository at `root`, where one is given.
        """
        env, own = os.environ, repository.read(root) if root and (root / repository.PATH).is_file() else None
        url = env.get("LOOP_GITHUB_API_URL") or env.get("GITHUB_API_URL")
        slug = env.get("GITHUB_REPOSITORY") or (own.slug if own else None)
        if missing := [n for n, v in (("GITHUB_REPOSITORY", slug), ("GITHUB_TOKEN", token())) if not v]:
            raise LoopError(f"{', '.join(missing)} not set", fix="export them, or run this in a workflow")
        url = url or (own.api if own else "https://api.github.com")
        return cls(url.rstrip("/"), str(slug), token())

    def call(self, method: str, path: str, **kwargs: Any) -> Any:
        """One call below /repos/{owner}/{name}; JSON or None.

        GitHubError with GitHub's own message; LoopError where it can't be reached.
        """
        url = f"{self.url}/repos/{self.repository}{path}"
        try:
            answer = self._send(method, url, **kwargs)
        except httpx.TransportError as error:
            raise LoopError(f"{method} {url}: {error!r}", fix="run this again once GitHub answers") from error
        if answer.is_error:
            said = f"{method} {answer.request.url}: {answer.status_code} {answer.text[:500]}"
            raise GitHubError(said, answer.status_code)
        return answer.json() if answer.content else None

    @retry(
        retry=retry_if_exception(_may_be_sent_again),
        wait=wait_random_exponential(multiplier=0.5, max=8),
        stop=stop_after_attempt(4),
        reraise=True,
    )
    def _send(self, method: str, url: str, **kwargs: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token}", "Accept": "application/vnd.github+json"}
        timeout = httpx.Timeout(30, connect=5)
        return httpx.request(method, url, headers=headers, timeout=timeout, **kwargs)

    def dispatch(self, workflow: str, inputs: dict[str, str], ref: str = "main") -> None:
        """Start a workflow by workflow_dispatch: a token with `actions: write` is enough."""
        self.call("POST", f"/actions/workflows/{workflow}/dispatches", json={"ref": ref, "inputs": inputs})

    def runs(self, workflow: str, **query: str) -> list[dict[str, Any]]:
        """A workflow's runs, newest first."""
        found = self.call("GET", f"/actions/workflows/{workflow}/runs", params=query)
        return list(found["workflow_runs"])

    def pull_request(self, head: str, title: str, body: str, base: str = "main") -> dict[str, Any]:
        """The open pull request from `head`, made or brought up to date: calling twice leaves one."""
        owner = self.repository.split("/", maxsplit=1)[0]
        query = {"head": f"{owner}:{head}", "state": "open", "base": base}
        if found := self.call("GET", "/pulls", params=query):
            number = found[0]["number"]
            return dict(self.call("PATCH", f"/pulls/{number}", json={"title": title, "body": body}))
        new = {"head": head, "base": base, "title": title, "body": body}
        return dict(self.call("POST", "/pulls", json=new))

    def comment(self, number: int, mark: str, body: str) -> None:
        """One comment on a pull request, kept up to date: `mark` is a hidden line that finds it again.

        People's comments stay theirs, whatever they copy.
        """
        text = f"<!-- {mark} -->\n{body}"
        for comment in self._every(f"/issues/{number}/comments"):
            if comment["user"]["type"] == "Bot" and comment["body"].startswith(f"<!-- {mark} -->"):
                self.call("PATCH", f"/issues/comments/{comment['id']}", json={"body": text})
                return
        self.call("POST", f"/issues/{number}/comments", json={"body": text})

    def _every(self, path: str) -> Iterator[dict[str, Any]]:
        """All of a list, page by page."""
        for page in count(1):
            found = self.call("GET", path, params={"per_page": PAGE, "page": page})
            yield from found
            if len(found) < PAGE:
                return
