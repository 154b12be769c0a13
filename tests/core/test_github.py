"""Which GitHub and which token are used, and what happens if GitHub refuses, limits or does not answer."""

import http.server
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
from ruamel.yaml import YAML

from loop.core.errors import LoopError
from loop.core.github import LONGEST, GitHub, GitHubError, Run, authorized


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "argocd").mkdir()
    named = {"name": "loop", "url": "https://git.acme.test/acme/loop.git", "registry": "registry.test"}
    YAML().dump({"data": named}, tmp_path / "argocd" / "repository.yaml")
    return tmp_path


def test_the_repository_says_what_the_environment_does_not(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Name and API come from its URL, unless variables set them; a token never comes from it."""
    with pytest.raises(LoopError, match=r"^not set: GITHUB_TOKEN"):
        GitHub.of_environment(root)
    monkeypatch.setenv("GITHUB_TOKEN", "t")
    assert GitHub.of_environment(root) == GitHub("https://git.acme.test/api/v3", "acme/loop", "t")
    monkeypatch.setenv("LOOP_GITHUB_API_URL", "http://127.0.0.1:1/")
    monkeypatch.setenv("GITHUB_REPOSITORY", "team/shop")
    assert GitHub.of_environment(root) == GitHub("http://127.0.0.1:1", "team/shop", "t")


def test_a_rotated_token_is_taken_up(root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The file of a mounted secret is read at each use, and takes precedence over the variable."""
    monkeypatch.setenv("GITHUB_TOKEN", "t")
    monkeypatch.setenv("GITHUB_TOKEN_FILE", str(tmp_path / "token"))
    with pytest.raises(LoopError, match="GITHUB_TOKEN_FILE"):
        GitHub.of_environment(root)
    for secret in ("one", "two"):
        (tmp_path / "token").write_text(f"{secret}\n")
        assert GitHub.of_environment(root).token == secret


def test_git_shows_the_token_to_one_server_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Added variables give Git the token as a header for this server; without a token none are added."""
    assert authorized("https://git.acme.test") == {}
    monkeypatch.setenv("GITHUB_TOKEN", "t")
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    assert authorized("https://git.acme.test") == {
        "GIT_CONFIG_COUNT": "2",
        "GIT_CONFIG_KEY_1": "http.https://git.acme.test/.extraHeader",
        "GIT_CONFIG_VALUE_1": "Authorization: Basic eC1hY2Nlc3MtdG9rZW46dA==",
    }


def test_a_token_that_no_header_can_hold_is_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A newline at its end is dropped; an invalid token is an error that does not show it."""
    monkeypatch.setenv("GITHUB_REPOSITORY", "acme/shop")
    monkeypatch.setenv("GITHUB_TOKEN", "secret\n")
    assert GitHub.of_environment().token == "secret"
    monkeypatch.setenv("GITHUB_TOKEN", "secret\nsecret")
    with pytest.raises(LoopError, match="GITHUB_TOKEN: contains a character") as told:
        GitHub.of_environment()
    assert "secret" not in str(told.value)


API = GitHub("https://api.test", "acme/shop", "t")
Reply = httpx.Response | httpx.TransportError


class Replies:
    """Gives these replies in turn, and the last one for ever; records the calls and the seconds waited."""

    def __init__(self, *replies: Reply) -> None:
        self.replies = list(replies)
        self.sent: list[tuple[str, str, Any]] = []
        self.waits: list[float] = []

    @contextmanager
    def stream(self, method: str, url: str, **options: Any) -> Iterator[httpx.Response]:
        self.sent.append((method, url.removeprefix("https://api.test/repos/acme/shop"), options.get("json")))
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        request = httpx.Request(method, url)
        if isinstance(reply, httpx.Response):
            reply.request = request
            yield reply
            return
        reply.request = request
        raise reply


@pytest.fixture
def replies(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Replies]:
    def given(*replies: Reply) -> Replies:
        made = Replies(*replies)
        monkeypatch.setattr(httpx, "stream", made.stream)
        for method in (GitHub.answer, GitHub.comment, GitHub.pull_request, GitHub.cancel):
            monkeypatch.setattr(method.retry, "sleep", made.waits.append)
        return made

    return given


def says(status: int, message: object = "no", **headers: str) -> httpx.Response:
    text = json.dumps({"message": message} if isinstance(message, str) else message)
    return httpx.Response(status, text=text, headers={k.replace("_", "-"): v for k, v in headers.items()})


LIMITS = {
    "429": says(429),
    "403 with retry-after": says(403, retry_after="1"),
    "403 of a secondary limit": says(403, "You have exceeded a secondary rate limit."),
    "403 of the hour's limit": says(403, x_ratelimit_remaining="0", x_ratelimit_reset="1"),
}


@pytest.mark.parametrize(
    ("method", "reply", "times"),
    [
        *[(method, says(502), times) for method, times in (("GET", 4), ("PATCH", 4), ("POST", 1))],
        *[(how, httpx.ReadTimeout("late"), times) for how, times in (("GET", 4), ("PATCH", 4), ("POST", 1))],
        ("POST", httpx.ConnectError("refused"), 4),
        *[("POST", limit, 4) for limit in LIMITS.values()],
        *[("GET", says(status), 1) for status in (301, 401, 403, 404, 409, 422)],
        ("GET", says(403, "Resource not accessible by integration", x_ratelimit_remaining="4000"), 1),
    ],
)
def test_what_would_be_made_twice_is_not_sent_twice(
    replies: Callable[..., Replies], method: str, reply: Reply, times: int
) -> None:
    """A call is repeated after a rate limit or an outage, a POST only if it cannot have had an effect."""
    github = replies(reply)
    with pytest.raises(GitHubError, match=f"^{method} https://api.test/repos/acme/shop/pulls: "):
        GitHub("https://api.test", "acme/shop", "t", patience=1_000).call(method, "/pulls")
    assert len(github.sent) == times


def test_it_waits_as_long_as_github_asks_and_says_so(
    replies: Callable[..., Replies], capsys: pytest.CaptureFixture[str]
) -> None:
    """It waits for `retry-after`, until the hour's reset, or else a minute; each wait is a line on stderr."""
    reset = str(int(time.time()) + 90)
    github = replies(
        says(429, "slow down", retry_after="7"),
        says(403, x_ratelimit_remaining="0", x_ratelimit_reset=reset),
        says(403, "You have exceeded a secondary rate limit"),
        says(200, {"ok": True}),
    )
    assert API.call("GET", "/pulls") == {"ok": True}
    for wait, least in zip(github.waits, (7, 89, 60), strict=True):
        assert least <= wait < least + 18
    first = capsys.readouterr().err.splitlines()[0]
    assert first.startswith("GET https://api.test/repos/acme/shop/pulls: 429 slow down; trying again in ")


def test_it_does_not_wait_for_an_hour(replies: Callable[..., Replies]) -> None:
    """A limit that lasts longer than the caller's patience is an error that says when to try again."""
    reset = int(time.time()) + 3_000
    github = replies(says(403, x_ratelimit_remaining="0", x_ratelimit_reset=str(reset)))
    after = datetime.fromtimestamp(reset + 1, UTC)
    with pytest.raises(GitHubError, match=f"run this again after {after:%H:%M}"):
        API.call("POST", "/pulls")
    assert (len(github.sent), github.waits) == (1, [])


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (says(401, "Bad credentials"), "401 Bad credentials\n  fix: give GITHUB_TOKEN"),
        (
            says(403, "No", x_accepted_github_permissions="actions=write"),
            "fix: .* permission: actions=write",
        ),
        (says(404, "Not Found"), "404 Not Found\n  fix: check the URL; .* lacks the permission"),
        (says(422, {"message": "Bad", "errors": [{"field": "head"}]}), "422 Bad {'field': 'head'}"),
        (says(422, {"message": "Bad", "errors": None}), "422 Bad"),
        (httpx.Response(502, text="<html>\n Unicorn"), "502 <html> Unicorn\n  fix: .*githubstatus"),
        (httpx.Response(500), "500 Internal Server Error"),
        (
            httpx.Response(200, text="<html>"),
            "not JSON: '<html>'\n  fix: check that https://api.test is the URL",
        ),
        (
            httpx.Response(301, headers={"location": "https://api.test/x"}),
            "301 .*\n  fix: .*repository.yaml",
        ),
    ],
)
def test_an_error_says_what_to_do(replies: Callable[..., Replies], reply: Reply, told: str) -> None:
    """An error has method, URL, status, GitHub's message, and the fix."""
    replies(reply)
    with pytest.raises(GitHubError, match=told) as error:
        API.call("PUT", "/x")
    assert str(error.value).startswith("PUT https://api.test/repos/acme/shop/x: ")


def test_a_comment_or_pull_request_is_looked_for_before_it_is_made_again(
    replies: Callable[..., Replies],
) -> None:
    """After a POST without an answer the client looks again, and updates what GitHub did create."""
    mine = {"id": 5, "user": {"type": "Bot"}, "body": "<!-- m -->\nhello"}
    github = replies(says(200, []), says(502), says(200, [mine]), says(200, mine))
    API.comment(1, "m", "hello")
    assert [how for how, _, _ in github.sent] == ["GET", "POST", "GET", "PATCH"]
    github = replies(
        says(200, []), httpx.ReadTimeout("late"), says(200, [{"number": 3}]), says(200, {"number": 3})
    )
    assert API.pull_request("b", "t", "why")["number"] == 3
    assert [how for how, _, _ in github.sent] == ["GET", "POST", "GET", "PATCH"]
    assert github.waits[0] >= 5  # GitHub may still be creating it


def test_a_dispatch_tells_its_run(replies: Callable[..., Replies]) -> None:
    """A dispatch returns its run's id and page; a dispatch whose result is unknown is not repeated."""
    page = "https://github.test/acme/shop/actions/runs/9"
    github = replies(says(200, {"workflow_run_id": 9, "run_url": "x", "html_url": page}))
    assert API.dispatch("ci.yml", {"a": "b"}) == Run(9, page)
    body = {"ref": "main", "inputs": {"a": "b"}, "return_run_details": True}
    assert github.sent == [("POST", "/actions/workflows/ci.yml/dispatches", body)]
    github = replies(says(502))
    with pytest.raises(GitHubError, match="502 no\n  fix: GitHub may have carried this out anyway"):
        API.dispatch("ci.yml", {})
    assert len(github.sent) == 1


@pytest.mark.parametrize("who", [None, {"type": "User"}, {"login": "ghost"}])
@pytest.mark.parametrize("said", [{"body": "looks good"}, {"body": None}, {}])
def test_a_comment_of_a_deleted_account(
    replies: Callable[..., Replies], who: object, said: dict[str, object]
) -> None:
    """GitHub's schema allows a null `user` and a missing `body`: such a comment is not ours."""
    github = replies(says(200, [{"id": 1, "user": who, **said}]), says(201, {}))
    API.comment(1, "m", "hello")
    assert github.sent[-1] == ("POST", "/issues/1/comments", {"body": "<!-- m -->\nhello"})


def test_what_github_would_refuse_as_too_long_is_cut(replies: Callable[..., Replies]) -> None:
    """A text over GitHub's limit is cut between characters, keeps its mark, and ends by saying so."""
    github = replies(says(200, []), says(201, {"number": 1}))
    API.comment(1, "m" * 500, "## a\n\n### b\n" + "→" * 30_000, "The rest is elsewhere.")
    github.replies = [says(200, []), says(201, {"number": 1})]
    API.pull_request("b", "t", "→\n" * 30_000)
    for sent in (github.sent[1][2]["body"], github.sent[3][2]["body"]):
        assert len(sent.encode()) <= LONGEST < 65_536
        assert "\ufffd" not in sent
    assert github.sent[1][2]["body"].endswith("## a\n\n\nThe rest is elsewhere.\n")
    assert github.sent[3][2]["body"].endswith("→\n\nThe rest is left out, because it is too long.\n")


def run_of(number: int, **fields: object) -> dict[str, object]:
    ours = {"full_name": "acme/shop"}
    run = {"id": number, "event": "schedule", "head_branch": "main", "head_repository": ours}
    run["created_at"] = "2026-11-02T00:00:00Z"
    return {**run, "repository": ours, **fields}


def test_a_strangers_run_is_not_trusted(replies: Callable[..., Replies]) -> None:
    """Only runs that were started on this repository's main are returned, from all pages of the list."""
    fork = {"full_name": "mallory/shop"}
    forged = [
        run_of(1, event="pull_request"),
        run_of(2, head_branch="topic"),
        run_of(3, head_branch=None),
        run_of(4, head_repository=fork),
        run_of(5, head_repository=None),
    ]
    page = {"workflow_runs": [*forged, *[run_of(number) for number in range(200, 105, -1)]]}
    last = {"workflow_runs": [run_of(8), run_of(7, created_at="2026-10-31T00:00:00Z")]}
    github = replies(says(200, page), says(200, last))
    runs = API.trusted("train.yml", datetime(2026, 11, 1, tzinfo=UTC), "schedule")
    assert [run["id"] for run in runs] == [*range(200, 105, -1), 8]
    assert len(github.sent) == 2


class Endless(http.server.BaseHTTPRequestHandler):
    """Serves a file without an end; but at /repos/acme/shop/small a small one, and at /none a 404."""

    def do_GET(self) -> None:
        small = self.path.endswith("small")
        self.send_response(404 if self.path.endswith("none") else 200)
        self.end_headers()
        with suppress(OSError):
            self.wfile.write(b"1234")
            while not small and not self.path.endswith("none"):
                self.wfile.write(bytes(1024))

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def test_no_more_is_read_than_was_asked_for() -> None:
    """The size that GitHub reports cannot be trusted, because the uploader of an artifact sets it."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Endless) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        github = GitHub(f"http://127.0.0.1:{server.server_port}", "acme/shop", "t")
        assert github.content("/small", 4) == b"1234"
        assert github.content("/small", 3) is None
        assert github.content("/large", 1 << 20) is None
        with pytest.raises(GitHubError, match="404"):
            github.content("/none", 4)
        server.shutdown()
