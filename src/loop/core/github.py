"""The few REST calls of GitHub that the loop uses, at GitHub's own paths.

GitHub's OpenAPI description (npm `@octokit/openapi`) says which fields of an answer may be null or missing.
"""

import base64
import os
import re
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any, cast

import click
import httpx
from tenacity import RetryCallState, retry, retry_if_exception, wait_random_exponential

from loop.core import actions, repository
from loop.core.errors import LoopError
from loop.core.remote import by_proxy

MAIN = "main"  # the branch that dispatched workflows run on
PAGE = 100  # entries at a time, the most that GitHub gives
TIMES = 4  # attempts at one call
PATIENCE = 300.0  # seconds that one call may spend waiting between its attempts
UNSAID = 60.0  # seconds to wait at a rate limit that does not say how long: GitHub asks for a minute
SETTLING = 5.0  # seconds after which a POST that got no answer has had its effect, if it had one
LONGEST = 60_000  # bytes of UTF-8; GitHub refuses a comment or a body of more than 65,536 characters
BACKOFF = wait_random_exponential(multiplier=1, max=16)
FORBIDDEN, MISSING, CONFLICT, UNPROCESSABLE, TOO_MANY, BROKEN = 403, 404, 409, 422, 429, 500
FIXES = {  # by status; a status that is not here has its fix in GitHub's message
    401: "give GITHUB_TOKEN, or the file GITHUB_TOKEN_FILE, a token that has not expired",
    MISSING: "check the URL; GitHub also answers 404 where the token may not see what is there",
}


class GitHubError(LoopError):
    """GitHub refused a call, or did not answer it (status 0).

    `again`: the call has changed nothing, or is one that may be made twice, so it can be repeated after
    `wait` seconds. `unclear`: it may have had its effect, although no answer says so.
    """

    def __init__(
        self,
        message: str,
        status: int,
        *,
        fix: str = "",
        again: bool = False,
        unclear: bool = False,
        wait: float = 0.0,
    ) -> None:
        super().__init__(message, fix=fix)
        self.status, self.again, self.unclear, self.wait = status, again, unclear, wait


def token() -> str:
    """The token in the file GITHUB_TOKEN_FILE, where a secret is mounted that may rotate; or GITHUB_TOKEN."""
    name, secret = "GITHUB_TOKEN", os.environ.get("GITHUB_TOKEN", "")
    if path := os.environ.get("GITHUB_TOKEN_FILE"):
        name = "GITHUB_TOKEN_FILE"
        try:
            secret = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise LoopError(f"GITHUB_TOKEN_FILE: {error}", fix="mount the secret there") from error
    if not re.fullmatch("[!-~]*", secret := secret.strip()):
        # No HTTP header can hold it, and httpx's error would print it.
        raise LoopError(f"{name} has a character that no token has", fix="set it to the token alone")
    return secret


def authorized(server: str) -> dict[str, str]:
    """Variables by which git sends the token to `server` and to no other: not by argv, not by disk."""
    if not (secret := token()):
        return {}
    said = base64.b64encode(f"x-access-token:{secret}".encode()).decode()
    count = int(os.environ.get("GIT_CONFIG_COUNT", "0"))
    return {
        "GIT_CONFIG_COUNT": str(count + 1),
        f"GIT_CONFIG_KEY_{count}": f"http.{server}/.extraHeader",
        f"GIT_CONFIG_VALUE_{count}": f"Authorization: Basic {said}",
    }


def own(run: dict[str, Any]) -> bool:
    """Whether a run's commit comes from the repository itself, and not from a fork by a pull request.

    Both names are of one answer, so this also holds after the repository was renamed.
    """
    head, here = run.get("head_repository") or {}, run.get("repository") or {}
    return bool(head.get("full_name")) and head["full_name"] == here.get("full_name")


def _repeatable(error: BaseException) -> bool:
    return isinstance(error, GitHubError) and error.again


def _unclear(error: BaseException) -> bool:
    return isinstance(error, GitHubError) and error.unclear


def _error(state: RetryCallState) -> GitHubError:
    return cast("GitHubError", state.outcome and state.outcome.exception())


def _pause(state: RetryCallState) -> float:
    """As long as GitHub asks for, and a random time more, so that callers do not come back all at once."""
    return _error(state).wait + BACKOFF(state)


def _impatient(state: RetryCallState) -> bool:
    github: GitHub = state.args[0]
    spent = max(state.idle_for, state.seconds_since_start or 0.0)
    return state.attempt_number >= TIMES or spent + state.upcoming_sleep > github.patience


def _say(state: RetryCallState) -> None:
    """A line on stderr, so that nobody takes the wait for a command that hangs."""
    click.echo(f"{_error(state).args[0]}; trying again in {state.upcoming_sleep:.0f} s", err=True)


# For a call that can simply be sent again.
_patiently = retry(
    retry=retry_if_exception(_repeatable), wait=_pause, stop=_impatient, before_sleep=_say, reraise=True
)
# For a method that first looks for what it would make: it starts over if an earlier attempt may have made it.
_looking_again = retry(
    retry=retry_if_exception(_unclear), wait=_pause, stop=_impatient, before_sleep=_say, reraise=True
)


@cache
def _trusted() -> ssl.SSLContext:
    """This machine's certificates, read once because reading them takes longer than most calls."""
    return httpx.create_ssl_context()


@dataclass(frozen=True)
class Run:
    """The run that a dispatch has started."""

    id: int
    url: str  # its page


@dataclass(frozen=True)
class GitHub:
    """One repository at one server; `url` is the API's, as GITHUB_API_URL names it."""

    url: str
    repository: str  # owner/name
    token: str
    patience: float = PATIENCE

    @classmethod
    def of_environment(cls, root: Path | None = None) -> "GitHub":
        """From GITHUB_REPOSITORY, the token and the API's URL (act sets its own, so LOOP_ goes first).

        What is not set there follows from the URL of the repository at `root`, where one is given.
        """
        env, own = os.environ, repository.read(root) if root and (root / repository.PATH).is_file() else None
        url = env.get("LOOP_GITHUB_API_URL") or env.get("GITHUB_API_URL")
        slug = env.get("GITHUB_REPOSITORY") or (own.slug if own else None)
        if missing := [n for n, v in (("GITHUB_REPOSITORY", slug), ("GITHUB_TOKEN", token())) if not v]:
            fix = "export them, or run this in a workflow"
            raise LoopError(f"{', '.join(missing)} not set", fix=fix, docs="docs/protection.md")
        url = url or (own.api if own else "https://api.github.com")
        return cls(url.rstrip("/"), str(slug), token())

    def call(self, method: str, path: str, **kwargs: Any) -> Any:
        """One call below /repos/{owner}/{name}; JSON or None. GitHubError where it fails."""
        answer = self.answer(method, path, **kwargs)
        if not answer.content:
            return None
        try:
            return answer.json()
        except (ValueError, RecursionError) as error:
            said = f"{method} {answer.request.url}: {answer.status_code}, and no JSON: {answer.text[:200]!r}"
            fix = f"is {self.url} the URL of GitHub's API?"
            unclear = method != "GET"
            raise GitHubError(said, answer.status_code, fix=fix, unclear=unclear) from error

    @_patiently
    def answer(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        """One call's answer with its headers, repeated where that does no harm: see GitHubError."""
        url = f"{self.url}/repos/{self.repository}{path}"
        headers = {"Authorization": f"Bearer {self.token}", "Accept": "application/vnd.github+json"}
        timeout = httpx.Timeout(30, connect=5)
        try:
            answer = httpx.request(
                method,
                url,
                headers=headers,
                timeout=timeout,
                follow_redirects=method == "GET",  # a redirected POST would become a GET
                verify=_trusted(),
                trust_env=by_proxy(url),
                **kwargs,
            )
        except (httpx.RequestError, httpx.InvalidURL) as error:
            raise _unanswered(method, url, error) from error
        if not answer.is_success:
            raise _refused(method, answer)
        return answer

    @_patiently
    def content(self, path: str, most: int) -> bytes | None:
        """The bytes that a GET answers with, as they come; None where they are more than `most`.

        No more than that is read: who has uploaded a file has also told GitHub its size.
        """
        url, found = f"{self.url}/repos/{self.repository}{path}", bytearray()
        headers = {"Authorization": f"Bearer {self.token}", "Accept-Encoding": "identity"}
        timeout = httpx.Timeout(30, connect=5)
        try:
            with httpx.stream(
                "GET",
                url,
                headers=headers,
                timeout=timeout,
                follow_redirects=True,
                verify=_trusted(),
                trust_env=by_proxy(url),
            ) as answer:
                if not answer.is_success:
                    answer.read()
                    raise _refused("GET", answer)
                for part in answer.iter_raw():
                    found += part
                    if len(found) > most:
                        return None
        except (httpx.RequestError, httpx.InvalidURL) as error:
            raise _unanswered("GET", url, error) from error
        return bytes(found)

    def dispatch(self, workflow: str, inputs: dict[str, str], ref: str = MAIN) -> Run | None:
        """Start a workflow by workflow_dispatch: a token with `actions: write` is enough.

        Returns the run; None from a GitHub Enterprise Server that does not tell it (3.19 and before).
        """
        path, body = f"/actions/workflows/{workflow}/dispatches", {"ref": ref, "inputs": inputs}
        try:
            made = self.call("POST", path, json={**body, "return_run_details": True})
        except GitHubError as error:
            if error.status != UNPROCESSABLE or "return_run_details" not in str(error):
                raise
            made = self.call("POST", path, json=body)  # 3.19 refuses the key, and has dispatched nothing
        return Run(made["workflow_run_id"], made["html_url"]) if made else None

    def runs(self, workflow: str, **query: str) -> list[dict[str, Any]]:
        """A workflow's runs, newest first. A fork's pull request may have made some: see `own`, `trusted`."""
        found = self.call("GET", f"/actions/workflows/{workflow}/runs", params=query)
        return list(found["workflow_runs"])

    def trusted(self, workflow: str, since: datetime, *events: str) -> list[dict[str, Any]]:
        """A workflow's runs since a time that `events` started on main of this repository, newest first.

        `workflow_dispatch` and `schedule` run main's own file, so their titles are what main says. A fork's
        pull request can make runs of the same workflow with any title, even from a branch that is called
        main. The query leaves them out, so that no number of them pushes ours off a page; the answer is
        checked again.
        """
        found = {}
        for event in events:
            listed = self.every(
                f"/actions/workflows/{workflow}/runs", "workflow_runs", event=event, branch=MAIN
            )
            for run in listed:
                if datetime.fromisoformat(run["created_at"]) < since:
                    break
                if run["event"] == event and run["head_branch"] == MAIN and own(run):
                    found[run["id"]] = run
        return [found[id_] for id_ in sorted(found, reverse=True)]

    def run(self, run: int) -> dict[str, Any] | None:
        """One run; None if it does not exist or was deleted."""
        try:
            return dict(self.call("GET", f"/actions/runs/{run}"))
        except GitHubError as error:
            if error.status != MISSING:
                raise
            return None

    @_looking_again  # a run that is cancelled twice is cancelled once
    def cancel(self, run: int) -> None:
        """Cancel a run, unless it has ended: a token with `actions: write` is enough."""
        try:
            self.call("POST", f"/actions/runs/{run}/cancel")
        except GitHubError as error:
            if error.status != CONFLICT:
                raise

    @_looking_again
    def pull_request(self, head: str, title: str, body: str, base: str = MAIN) -> dict[str, Any]:
        """The open pull request from `head`, made or brought up to date: calling twice leaves one."""
        owner = self.repository.split("/", maxsplit=1)[0]
        query = {"head": f"{owner}:{head}", "state": "open", "base": base}
        body = actions.cut(body, LONGEST, "The rest is too long here.")
        if found := self.call("GET", "/pulls", params=query):
            number = found[0]["number"]
            return dict(self.call("PATCH", f"/pulls/{number}", json={"title": title, "body": body}))
        new = {"head": head, "base": base, "title": title, "body": body}
        return dict(self.call("POST", "/pulls", json=new))

    @_looking_again
    def comment(self, number: int, mark: str, body: str, rest: str = "The rest is too long here.") -> None:
        """One comment on a pull request, kept up to date: `mark` is a hidden line that finds it again.

        People's comments stay theirs, whatever they copy. What is too long is cut, and ends with `rest`.
        """
        text = actions.cut(f"<!-- {mark} -->\n{body}", LONGEST, rest)
        for comment in self.every(f"/issues/{number}/comments"):
            author, said = comment["user"] or {}, comment.get("body") or ""  # a deleted account is null
            if author.get("type") == "Bot" and said.startswith(f"<!-- {mark} -->"):
                self.call("PATCH", f"/issues/comments/{comment['id']}", json={"body": text})
                return
        self.call("POST", f"/issues/{number}/comments", json={"body": text})

    def every(self, path: str, key: str = "", **query: str) -> Iterator[dict[str, Any]]:
        """All of a list, page by page; `key` is where the answer has it."""
        for page in count(1):
            answer = self.call("GET", path, params={**query, "per_page": PAGE, "page": page})
            found = answer[key] if key else answer
            yield from found
            if len(found) < PAGE:
                return


def _unanswered(method: str, url: str, error: Exception) -> GitHubError:
    """No answer. A POST is repeated only where no connection was made, because it is not idempotent."""
    unclear = method == "POST" and not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
    return GitHubError(
        f"{method} {url}: {error!r}",
        0,
        fix=UNCLEAR if unclear else "run this again once GitHub answers",
        again=isinstance(error, httpx.TransportError) and not unclear,
        unclear=unclear,
        wait=SETTLING if unclear else 0.0,
    )


UNCLEAR = "GitHub may have done it all the same: check whether it has, and run this again if not"


def _refused(method: str, answer: httpx.Response) -> GitHubError:
    """An answer that says no: at a rate limit nothing was done; after a 5xx a POST may have been."""
    status, limit = answer.status_code, _limit(answer)
    unclear = status >= BROKEN and method == "POST"
    fix = FIXES.get(status, "")
    if limit is not None:
        fix = f"run this again after {datetime.fromtimestamp(time.time() + limit, UTC):%H:%M:%S} UTC"
    elif status >= BROKEN:
        fix = UNCLEAR if unclear else "run this again once GitHub is well: https://www.githubstatus.com"
    elif answer.is_redirect:
        fix = "the repository has moved: write its new URL into argocd/repository.yaml"
    elif status == FORBIDDEN:
        needs = answer.headers.get("x-accepted-github-permissions", "what this call needs")
        fix = f"give the token the permission for it: {needs}"
    return GitHubError(
        f"{method} {answer.request.url}: {status} {_message(answer)}",
        status,
        fix=fix,
        again=limit is not None or (status >= BROKEN and not unclear),
        unclear=unclear,
        wait=limit if limit is not None else max(_seconds(answer), SETTLING if unclear else 0.0),
    )


def _limit(answer: httpx.Response) -> float | None:
    """How many seconds a rate limit asks to wait; None where the answer is about something else.

    https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api: a limit is told by 429 or
    by 403, and so is a missing permission by 403. Not every secondary limit says how long.
    """
    if answer.status_code not in (FORBIDDEN, TOO_MANY):
        return None
    if after := _seconds(answer):
        return after
    reset = answer.headers.get("x-ratelimit-reset", "")
    if answer.headers.get("x-ratelimit-remaining") == "0" and reset.isdigit():
        return max(1.0, float(reset) - time.time() + 1)
    limited = answer.status_code == TOO_MANY or "rate limit" in answer.text.lower()
    return UNSAID if limited else None


def _seconds(answer: httpx.Response) -> float:
    after = answer.headers.get("retry-after", "")
    return float(after) if after.isdigit() else 0.0


def _message(answer: httpx.Response) -> str:
    """What GitHub says, with what is wrong with each field; a proxy's page shortened."""
    try:
        said = answer.json()
        return " ".join(str(part) for part in (said["message"], *(said.get("errors") or [])))[:500]
    except (ValueError, KeyError, TypeError, AttributeError):
        return " ".join(answer.text.split())[:500] or answer.reason_phrase
