"""The few REST calls of GitHub that the loop uses, at GitHub's own paths."""

import os
from dataclasses import dataclass
from typing import Any

import httpx
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from loop.core.errors import LoopError


class GitHubError(LoopError):
    """GitHub answered with an error; the message is its own."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class GitHub:
    """One repository at one server; `url` is the API's, as GITHUB_API_URL names it."""

    url: str
    repository: str  # owner/name
    token: str

    @classmethod
    def of_environment(cls) -> "GitHub":
        """From GITHUB_REPOSITORY, GITHUB_TOKEN and the API URL (act sets its own, so LOOP_ goes first)."""
        names = ("GITHUB_REPOSITORY", "GITHUB_TOKEN")
        if missing := [name for name in names if not os.environ.get(name)]:
            raise LoopError(f"{', '.join(missing)} not set", fix="export them, or run this in a workflow")
        url = os.environ.get("LOOP_GITHUB_API_URL") or os.environ.get(
            "GITHUB_API_URL", "https://api.github.com"
        )
        return cls(url.rstrip("/"), os.environ["GITHUB_REPOSITORY"], os.environ["GITHUB_TOKEN"])

    @retry(
        retry=retry_if_exception_type(httpx.TransportError),
        wait=wait_random_exponential(multiplier=0.5, max=8),
        stop=stop_after_attempt(4),
        reraise=True,
    )
    def call(self, method: str, path: str, **kwargs: Any) -> Any:
        """One call below /repos/{owner}/{name}; JSON or None. GitHubError with GitHub's own message."""
        answer = httpx.request(
            method,
            f"{self.url}/repos/{self.repository}{path}",
            headers={"Authorization": f"Bearer {self.token}", "Accept": "application/vnd.github+json"},
            timeout=30,
            **kwargs,
        )
        if answer.is_error:
            said = f"{method} {answer.request.url}: {answer.status_code} {answer.text[:500]}"
            raise GitHubError(said, answer.status_code)
        return answer.json() if answer.content else None

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
        """One comment on a pull request, kept up to date: `mark` is a hidden line that finds it again."""
        text = f"<!-- {mark} -->\n{body}"
        for comment in self.call("GET", f"/issues/{number}/comments", params={"per_page": 100}):
            if comment["body"].startswith(f"<!-- {mark} -->"):
                self.call("PATCH", f"/issues/comments/{comment['id']}", json={"body": text})
                return
        self.call("POST", f"/issues/{number}/comments", json={"body": text})
