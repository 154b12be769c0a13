"""The stand-in's web server: Git over HTTP, and GitHub's REST calls at GitHub's paths."""

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from loop_demo.github import contract, pulls, settings, shapes, workflows
from loop_demo.github.calls import Call
from loop_demo.github.hosting import Repository
from loop_demo.github.jobs import allows
from loop_demo.github.merging import Queue
from loop_demo.github.triggers import pushed
from loop_demo.github.weather import Weather

# GitHub Enterprise Server serves its API below this path of the host that serves clones
ENTERPRISE = "/api/v3"
ANY = ""  # no scope is needed: every token may make the call
# The header in which GitHub tells a client when its token expires
ENDS = "github-authentication-token-expiration"
LIFE = timedelta(days=30)  # GitHub's default for a fine-grained token
REPO = "/repos/{owner}/{repo}"
PLACE = f"{REPO}/environments/{{environment_name}}"
# A handler returns the answer's content, or a Response if that is not JSON or has another status than usual
Handler = Callable[[Call], Any]


# GitHub's calls: method, path, handler, and the scope that a job's token needs (read for GET, else write)
GITHUBS: list[tuple[str, str, Handler, str]] = [
    ("GET", REPO, lambda call: shapes.repository(call.repo), ANY),
    ("POST", f"{REPO}/actions/workflows/{{workflow_id}}/dispatches", workflows.dispatch, "actions"),
    ("GET", f"{REPO}/actions/workflows/{{workflow_id}}/runs", workflows.runs, "actions"),
    ("GET", f"{REPO}/actions/runs", workflows.runs, "actions"),
    ("GET", f"{REPO}/actions/runs/{{run_id}}", workflows.run, "actions"),
    ("GET", f"{REPO}/actions/runs/{{run_id}}/artifacts", workflows.artifacts, "actions"),
    ("GET", f"{REPO}/actions/artifacts/{{artifact_id}}/{{archive_format}}", workflows.archive, "actions"),
    ("POST", f"{REPO}/actions/runs/{{run_id}}/cancel", workflows.cancel, "actions"),
    ("GET", f"{REPO}/pulls", pulls.pulls, "pull-requests"),
    ("POST", f"{REPO}/pulls", pulls.open_pull, "pull-requests"),
    ("GET", f"{REPO}/pulls/{{pull_number}}", pulls.pull, "pull-requests"),
    ("PATCH", f"{REPO}/pulls/{{pull_number}}", pulls.edit_pull, "pull-requests"),
    ("PUT", f"{REPO}/pulls/{{pull_number}}/merge", pulls.merge, "contents"),
    ("GET", f"{REPO}/issues/{{issue_number}}/comments", pulls.comments, "pull-requests"),
    ("POST", f"{REPO}/issues/{{issue_number}}/comments", pulls.add_comment, "pull-requests"),
    ("PATCH", f"{REPO}/issues/comments/{{comment_id}}", pulls.edit_comment, "pull-requests"),
    ("POST", f"{REPO}/statuses/{{sha}}", pulls.add_status, "statuses"),
    ("GET", f"{REPO}/commits/{{ref}}/statuses", pulls.statuses, "statuses"),
    ("GET", f"{REPO}/environments", settings.answer, "actions"),
    ("GET", f"{PLACE}/deployment-branch-policies", settings.answer, "actions"),
    ("GET", f"{PLACE}/secrets", settings.answer, "secrets"),
    ("GET", f"{REPO}/actions/secrets", settings.answer, "secrets"),
    ("GET", f"{REPO}/actions/organization-secrets", settings.answer, "secrets"),
    ("GET", f"{REPO}/rules/branches/{{branch}}", settings.answer, ANY),
]
# Calls that only the stand-in has; GitHub shows these things on web pages or not at all
OWN: list[tuple[str, str, Handler, str]] = [
    ("POST", "/_schedule/{owner}/{repo}/{workflow_id}", workflows.schedule, ANY),
    ("GET", "/_artifact/{owner}/{repo}/{artifact_id}", workflows.content, ANY),
    ("POST", "/_settings/{owner}/{repo}", settings.change, ANY),
    ("POST", "/_queue/{owner}/{repo}/{pull_number}", pulls.enqueue, "contents"),
]
NUMBERS = re.compile(r"\{(run_id|comment_id|artifact_id|\w+_number)\}")


def build(server: "Server", on_ready: Callable[[], None]) -> Starlette:
    """Build the web application. `on_ready` is called when it can answer."""

    @asynccontextmanager
    async def life(_: Starlette) -> AsyncIterator[None]:
        server.runner.start()
        server.queue.advance()
        on_ready()
        yield
        server.runner.stop()

    routes = [
        Route(start + NUMBERS.sub(r"{\1:int}", route[1]), server.endpoint(*route), methods=[route[0]])
        for route in (*GITHUBS, *OWN)
        for start in ("", ENTERPRISE)
    ]
    git = Route("/{owner}/{repo}/{path:path}", server.git, methods=["GET", "POST"])
    return Starlette(routes=[*routes, git], lifespan=life, exception_handlers={HTTPException: _message})


def _message(_: object, error: Exception) -> Response:
    known = error if isinstance(error, HTTPException) else HTTPException(500)
    body = {"message": known.detail, "documentation_url": "https://docs.github.com/rest"}
    return JSONResponse(body, known.status_code, headers=known.headers)


def _token(request: Request) -> str:
    """Return the token of the Authorization header, of the scheme Bearer, token, or Basic (its password)."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return value
    try:
        return base64.b64decode(value).decode().partition(":")[2]
    except ValueError:
        return ""


class Server:
    """Checks who makes a call and whether they may, and sends the answer. `tokens` are {token: account}."""

    def __init__(self, queue: Queue, skies: Weather, tokens: dict[str, str]) -> None:
        self.runner, self.queue, self.weather, self.tokens = queue.runner, queue, skies, tokens
        self.ends = f"{datetime.now(UTC) + LIFE:%Y-%m-%d %H:%M:%S} UTC"

    def who(self, request: Request, need: str, *, writes: bool) -> str:
        """Return the account of a request's token; HTTPException if the token may not make the call.

        A job's token needs the scope `need`, as in a private repository. A stranger's token may only open
        pull requests, comment, and write to the stranger's own repositories.
        """
        token, level = _token(request), "write" if writes else "read"
        granted = self.runner.grants.get(token)
        if granted is None and token not in self.tokens:
            raise HTTPException(401, "Bad credentials", {"WWW-Authenticate": 'Basic realm="GitHub"'})
        if granted is not None and need and not allows(granted, need, level):
            raise HTTPException(403, f"Resource not accessible by integration: needs {need}: {level}")
        who, theirs = self.tokens.get(token, shapes.BOT), request.path_params.get("owner")
        proposes = need == "pull-requests" and request.method == "POST"
        if who == shapes.STRANGER and need and writes and not proposes and theirs != who:
            raise HTTPException(403, "Must have push access to repository")
        return who

    def repository(self, request: Request) -> Repository:
        """Return the repository that the request's path names; HTTPException 404 if there is none."""
        name = request.path_params["repo"].removesuffix(".git")
        repo = self.runner.hosting.find(f"{request.path_params['owner']}/{name}")
        if repo is None:
            raise HTTPException(404, "Not Found")
        return repo

    def endpoint(self, how: str, path: str, handler: Handler, need: str) -> Callable[[Request], Any]:
        """Wrap a handler. Requests and answers of GitHub's calls are checked against its description."""

        async def answer(request: Request) -> Response:
            who, repo = self.who(request, need, writes=how != "GET"), self.repository(request)
            try:
                body = await request.json() if await request.body() else {}
            except ValueError:
                raise HTTPException(400, "Problems parsing JSON") from None
            if not isinstance(body, dict):
                raise HTTPException(400, "Body should be a JSON object")
            call = Call(self.queue, request, repo=repo, who=who, body=body)
            if path.startswith("/_"):
                made = await run_in_threadpool(handler, call)
                return made if isinstance(made, Response) else JSONResponse(made)
            found = await run_in_threadpool(_checked, f"{how} {path}", handler, call)
            if _token(request) in self.tokens:
                found.headers[ENDS] = self.ends  # GitHub sends no expiry for a run's token
            return found

        async def spoilt(request: Request) -> Response:
            return await self.weather.over(lambda: answer(request))

        return answer if path.startswith("/_") else spoilt

    async def git(self, request: Request) -> Response:
        """Answer clone, fetch and push by running `git http-backend`."""
        pushes = "git-receive-pack" in f"{request.url.path}?{request.url.query}"
        who, repo = self.who(request, "contents", writes=pushes), self.repository(request)
        header = {"content-encoding": "HTTP_CONTENT_ENCODING", "git-protocol": "GIT_PROTOCOL"}
        environment = {
            "GIT_PROJECT_ROOT": str(self.runner.hosting.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "REQUEST_METHOD": request.method,
            "QUERY_STRING": request.url.query,
            "CONTENT_TYPE": request.headers.get("content-type", ""),
            "PATH_INFO": f"/{repo.name}.git/{request.path_params['path']}",
            **{name: request.headers[key] for key, name in header.items() if key in request.headers},
        }
        return await run_in_threadpool(self._served, repo, environment, await request.body(), who)

    def _served(self, repo: Repository, environment: dict[str, str], body: bytes, who: str) -> Response:
        if not environment["PATH_INFO"].endswith("/git-receive-pack"):
            return _backend(environment, body)
        with self.runner.hosting.moving:
            before = repo.refs()
            answer = _backend(environment, body)
            pushed(self.runner, repo, before, who)
        return answer


def _backend(environment: dict[str, str], body: bytes) -> Response:
    """Run `git http-backend`, which is a CGI program, and return its answer."""
    environment = {**os.environ, **environment, "CONTENT_LENGTH": str(len(body))}
    command = ["git", "http-backend"]
    done = subprocess.run(command, input=body, env=environment, capture_output=True, check=False)
    head, _, content = done.stdout.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().splitlines())
    status = int(headers.pop("Status", "200 OK" if headers else "500").split()[0])
    return Response(content, status, headers)


def _checked(name: str, handler: Handler, call: Call) -> Response:
    """Make one of GitHub's calls, and check its request and its answer against GitHub's description."""
    if wrong := contract.wrong_request(name, dict(call.query), call.body):
        print(f"refused: {name}: {wrong}", file=sys.stderr, flush=True)
        raise HTTPException(422, f"Invalid request.\n\n{wrong}")
    try:
        made = handler(call)
    except HTTPException as error:
        made = _message(None, error)
    status, content = contract.success(name), made
    if isinstance(made, Response):
        status, content = made.status_code, json.loads(bytes(made.body)) if made.body else None
    content, wrong = contract.answer(name, status, content)
    if wrong:
        print(f"wrong answer: {name}: {wrong}", file=sys.stderr, flush=True)
        raise HTTPException(500, f"The stand-in's answer does not match GitHub's schema: {wrong}")
    return made if isinstance(made, Response) else JSONResponse(content, status)
