"""Calls the parts of GitHub's REST API that the loop uses, at GitHub's own paths.

GitHub's OpenAPI description (npm `@octokit/openapi`) says which fields of a response may be null or missing.
"""

import base64
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

import click
import httpx
from tenacity import RetryCallState, retry, retry_if_exception, wait_random_exponential

from loop.core import actions, repository
from loop.core.errors import LoopError
from loop.core.git import Git, bare
from loop.core.remote import by_proxy, certificates

P = ParamSpec("P")
R = TypeVar("R")
MAIN = "main"  # the branch on which dispatched workflows run
PAGE = 100  # entries per page of a list, the maximum that GitHub allows
TIMES = 4  # maximum number of attempts for one API call
PATIENCE = 300.0  # maximum seconds that one API call may spend waiting between its attempts
UNSAID = 60.0  # seconds to wait at a rate limit without a stated time; GitHub recommends one minute
SETTLING = 5.0  # seconds to wait before checking whether a POST without a response took effect
LONGEST = 60_000  # maximum bytes of a comment or body; GitHub rejects more than 65,536 characters
BACKOFF = wait_random_exponential(multiplier=1, max=16)
FORBIDDEN, MISSING, CONFLICT, TOO_MANY, BROKEN = 403, 404, 409, 429, 500
FIXES = {  # fixes of an API error by status code; for other codes, GitHub's message says what to do
    401: "give GITHUB_TOKEN, or the file GITHUB_TOKEN_FILE, a token that has not expired",
    FORBIDDEN: "give the token this permission: {needs}",
    MISSING: "check the URL; GitHub also answers 404 if the token lacks the permission to read it",
    BROKEN: "run this again when GitHub has recovered: https://www.githubstatus.com",
}
UNCLEAR = "GitHub may have carried this out anyway: check, and run this again only if it has not"


class GitHubError(LoopError):
    """GitHub refused a call, or did not respond to it (status 0).

    `again`: the call can be repeated after `wait` seconds, because it changed nothing or is idempotent.
    `unclear`: a POST, which is not idempotent, may have taken effect although no response confirms it. It
    is not repeated before a check whether it did.
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
        super().__init__(message, fix=UNCLEAR if unclear else fix)
        self.status, self.again, self.unclear, self.wait = status, again and not unclear, unclear, wait


def token() -> str:
    """Return the token from the file GITHUB_TOKEN_FILE, otherwise from GITHUB_TOKEN; empty if neither is set.

    The file takes precedence, because a secret that is mounted as a file may be rotated. Raises LoopError if
    the token is malformed.
    """
    name, secret = "GITHUB_TOKEN", os.environ.get("GITHUB_TOKEN", "")
    if path := os.environ.get("GITHUB_TOKEN_FILE"):
        name = "GITHUB_TOKEN_FILE"
        try:
            secret = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise LoopError(f"GITHUB_TOKEN_FILE: {error}", fix="mount the secret at that path") from error
    if not re.fullmatch("[!-~]*", secret := secret.strip()):
        # The token is checked here, because httpx would print it in an error about an invalid header.
        raise LoopError(
            f"{name}: contains a character that is invalid in a token", fix="set it to the token only"
        )
    return secret


def authorized(server: str) -> dict[str, str]:
    """Return variables that make git send the token to `server` only, without a command line or a file."""
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
    """Whether a workflow run's commit comes from this repository, and not from a fork's pull request.

    Both names come from the same response, so the check also works after the repository was renamed.
    """
    head, here = run.get("head_repository") or {}, run.get("repository") or {}
    return bool(head.get("full_name")) and head["full_name"] == here.get("full_name")


@contextmanager
def opened(root: Path) -> Iterator[Git]:
    """Yield the work tree at `root`, or a temporary clone if it has no .git, as in the monitor's image."""
    if (root / ".git").exists():
        yield Git(root)
        return
    own = repository.read(root)
    with bare(own.clone_url, partial(authorized, own.server)) as git:
        yield git


def _retried(flag: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator that retries a method after each GitHubError whose attribute `flag` is true.

    It waits as long as GitHub asks, and a random time so that callers do not retry all at once. Each wait is
    printed, so that it does not look like a hanging command.
    """

    def error(state: RetryCallState) -> GitHubError:
        return cast("GitHubError", state.outcome and state.outcome.exception())

    def impatient(state: RetryCallState) -> bool:
        spent = (state.seconds_since_start or 0.0) + state.upcoming_sleep
        return state.attempt_number >= TIMES or spent > state.args[0].patience

    def say(state: RetryCallState) -> None:
        click.echo(f"{error(state).args[0]}; trying again in {state.upcoming_sleep:.0f} s", err=True)

    return retry(
        retry=retry_if_exception(lambda error: isinstance(error, GitHubError) and getattr(error, flag)),
        wait=lambda state: error(state).wait + (SETTLING if error(state).unclear else 0.0) + BACKOFF(state),
        stop=impatient,
        before_sleep=say,
        reraise=True,
    )


_patiently = _retried("again")
_looking_again = _retried("unclear")  # for methods that first check whether their result exists


@dataclass(frozen=True)
class Run:
    """The workflow run that a dispatch started."""

    id: int
    url: str  # URL of the run's web page


@dataclass(frozen=True)
class GitHub:
    """Client for one repository on one server; `url` is the API's URL, as in GITHUB_API_URL."""

    url: str
    repository: str  # the repository as `owner/name`
    token: str
    patience: float = PATIENCE

    @classmethod
    def of_environment(cls, root: Path | None = None) -> "GitHub":
        """Create a client from GITHUB_REPOSITORY, the token and the API's URL in the environment.

        LOOP_GITHUB_API_URL takes precedence over GITHUB_API_URL, because act sets the latter itself. The
        argocd/repository.yaml in `root` provides missing values. Raises LoopError if a value is missing.
        """
        env, own = os.environ, repository.read(root) if root and (root / repository.PATH).is_file() else None
        url = env.get("LOOP_GITHUB_API_URL") or env.get("GITHUB_API_URL")
        slug = env.get("GITHUB_REPOSITORY") or (own.slug if own else None)
        if missing := [n for n, v in (("GITHUB_REPOSITORY", slug), ("GITHUB_TOKEN", token())) if not v]:
            fix = "export these variables, or run this in a workflow"
            raise LoopError(f"not set: {', '.join(missing)}", fix=fix, docs="docs/protection.md")
        url = url or (own.api if own else "https://api.github.com")
        return cls(url.rstrip("/"), str(slug), token())

    def call(self, method: str, path: str, *, fine: int | None = None, **kwargs: Any) -> Any:
        """Call a path below /repos/{owner}/{name} and return the response's JSON.

        Returns None if the response is empty, or if it has the error status `fine`.
        """
        try:
            answer = self.answer(method, path, **kwargs)
        except GitHubError as error:
            if error.status != fine:
                raise
            return None
        try:
            return answer.json() if answer.content else None
        except (ValueError, RecursionError) as error:
            said = f"{method} {answer.request.url}: {answer.status_code}, but not JSON: {answer.text[:200]!r}"
            fix = f"check that {self.url} is the URL of GitHub's API"
            raise GitHubError(said, answer.status_code, fix=fix, unclear=method == "POST") from error

    @contextmanager
    def _sent(self, method: str, path: str, headers: dict[str, str], **rest: Any) -> Iterator[httpx.Response]:
        """Yield the response to one call, whose content is not read yet. Raises GitHubError if it fails."""
        url = f"{self.url}/repos/{self.repository}{path}"
        try:
            with httpx.stream(
                method,
                url,
                headers={"Authorization": f"Bearer {self.token}", **headers},
                timeout=httpx.Timeout(30, connect=5),
                follow_redirects=method == "GET",  # httpx would turn a redirected POST into a GET
                verify=certificates(),
                trust_env=by_proxy(url),
                **rest,
            ) as answer:
                if not answer.is_success:
                    answer.read()
                    raise _refused(method, answer)
                yield answer
        except (httpx.RequestError, httpx.InvalidURL) as error:
            raise _unanswered(method, url, error) from error

    @_patiently
    def answer(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        """Call a path and return the response. Raises GitHubError if the call fails, also when repeated."""
        headers = {"Accept": "application/vnd.github+json"}
        with self._sent(method, path, headers, **kwargs) as answer:
            answer.read()
        return answer

    @_patiently
    def content(self, path: str, most: int) -> bytes | None:
        """Return the bytes of a GET response without decompressing them; None if they are more than `most`.

        The size that GitHub states is not used, because the uploader of a file controls it.
        """
        found = bytearray()
        with self._sent("GET", path, {"Accept-Encoding": "identity"}) as answer:
            for part in answer.iter_raw():
                found += part
                if len(found) > most:
                    return None
        return bytes(found)

    def dispatch(self, workflow: str, inputs: dict[str, str], ref: str = MAIN) -> Run:
        """Start a workflow by workflow_dispatch, for which a token with `actions: write` is enough."""
        body = {"ref": ref, "inputs": inputs, "return_run_details": True}
        made = self.call("POST", f"/actions/workflows/{workflow}/dispatches", json=body)
        return Run(made["workflow_run_id"], made["html_url"])

    def runs(self, workflow: str, **query: str) -> list[dict[str, Any]]:
        """Return a workflow's runs, newest first, also those of forks, which `own` and `trusted` exclude."""
        return list(self.call("GET", f"/actions/workflows/{workflow}/runs", params=query)["workflow_runs"])

    def trusted(self, workflow: str, since: datetime, *events: str) -> list[dict[str, Any]]:
        """Return a workflow's runs since `since` that `events` started on main, newest first.

        `workflow_dispatch` and `schedule` run the workflow file of this repository's main branch, so the
        titles of these runs can be trusted. A fork's pull request can create runs with any title, even from a
        branch called main, so each run is checked.
        """
        found = {}
        for event in events:
            path = f"/actions/workflows/{workflow}/runs"
            for run in self.every(path, "workflow_runs", event=event, branch=MAIN):
                if datetime.fromisoformat(run["created_at"]) < since:
                    break
                if run["event"] == event and run["head_branch"] == MAIN and own(run):
                    found[run["id"]] = run
        return [found[id_] for id_ in sorted(found, reverse=True)]

    @_looking_again  # cancelling a run a second time has no effect
    def cancel(self, run: int) -> None:
        """Cancel a workflow run if it has not ended; a token with `actions: write` is enough."""
        self.call("POST", f"/actions/runs/{run}/cancel", fine=CONFLICT)

    @_looking_again
    def pull_request(self, head: str, title: str, body: str) -> dict[str, Any]:
        """Create or update the open pull request from branch `head`; returns it."""
        owner = self.repository.split("/", maxsplit=1)[0]
        query = {"head": f"{owner}:{head}", "state": "open", "base": MAIN}
        body = actions.cut(body, LONGEST, "The rest is left out, because it is too long.")
        if found := self.call("GET", "/pulls", params=query):
            number = found[0]["number"]
            return dict(self.call("PATCH", f"/pulls/{number}", json={"title": title, "body": body}))
        new = {"head": head, "base": MAIN, "title": title, "body": body}
        return dict(self.call("POST", "/pulls", json=new))

    @_looking_again
    def comment(self, number: int, mark: str, body: str, rest: str = "The rest is left out.") -> None:
        """Create or update the bot's comment on a pull request that starts with the hidden line `mark`.

        Comments by people are never changed. A body that is too long is cut and ends with `rest`.
        """
        text = actions.cut(f"<!-- {mark} -->\n{body}", LONGEST, rest)
        for comment in self.every(f"/issues/{number}/comments"):
            # GitHub returns null as the author if the account was deleted
            author, said = comment["user"] or {}, comment.get("body") or ""
            if author.get("type") == "Bot" and said.startswith(f"<!-- {mark} -->"):
                self.call("PATCH", f"/issues/comments/{comment['id']}", json={"body": text})
                return
        self.call("POST", f"/issues/{number}/comments", json={"body": text})

    def every(self, path: str, key: str = "", **query: str) -> Iterator[dict[str, Any]]:
        """Yield all entries of a paginated list; `key` is the response's field that contains the list."""
        for page in count(1):
            answer = self.call("GET", path, params={**query, "per_page": PAGE, "page": page})
            found = answer[key] if key else answer
            yield from found
            if len(found) < PAGE:
                return


def _unanswered(method: str, url: str, error: Exception) -> GitHubError:
    """Return the error for a call without a response. A POST may have taken effect if it was connected."""
    return GitHubError(
        f"{method} {url}: {error!r}",
        0,
        fix="run this again when GitHub is reachable",
        again=isinstance(error, httpx.TransportError),
        unclear=method == "POST" and not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout),
    )


def _refused(method: str, answer: httpx.Response) -> GitHubError:
    """Return the error for a response with an error status. After a 5xx, a POST may have taken effect."""
    status, limit = answer.status_code, _limit(answer)
    needs = answer.headers.get("x-accepted-github-permissions", "see GitHub's documentation of this call")
    fix = FIXES.get(min(status, BROKEN), "").format(needs=needs)
    if limit is not None:
        fix = f"run this again after {datetime.fromtimestamp(time.time() + limit, UTC):%H:%M:%S} UTC"
    elif answer.is_redirect:
        fix = "write the repository's new URL into argocd/repository.yaml, because it has moved"
    return GitHubError(
        f"{method} {answer.request.url}: {status} {_message(answer)}",
        status,
        fix=fix,
        again=limit is not None or status >= BROKEN,
        unclear=status >= BROKEN and method == "POST",
        wait=_seconds(answer) if limit is None else limit,
    )


def _limit(answer: httpx.Response) -> float | None:
    """Return how many seconds a rate limit asks to wait; None if the response is not about a rate limit.

    GitHub reports a limit with 429 or 403, and a missing permission with 403 too. Not every secondary limit
    states a time. https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api
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
    """Return GitHub's error message with the error of each field, or the start of a proxy's page."""
    try:
        said = answer.json()
        return " ".join(str(part) for part in (said["message"], *(said.get("errors") or [])))[:500]
    except (ValueError, KeyError, TypeError, AttributeError):
        return " ".join(answer.text.split())[:500] or answer.reason_phrase
