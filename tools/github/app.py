"""The web side: Git over HTTP, and the REST calls that the project uses, at GitHub's own paths."""

import base64
import binascii
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import shapes
import triggers
from events import Unprocessable
from hosting import GitFailed, Repository, backend
from runs import Runner
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from state import now

ENTERPRISE = "/api/v3"  # where GitHub Enterprise Server has its API: at the host that clones come from
READ = ""  # nothing is written: every token may
ENDS = "github-authentication-token-expiration"  # with each answer to a token that has an end


def build(runner: Runner, tokens: dict[str, str], ends: datetime, on_ready: Callable[[], None]) -> Starlette:
    """The application; it says that `tokens` end at `ends` (UTC). `on_ready` is called when it answers."""

    @asynccontextmanager
    async def life(_: Starlette) -> AsyncIterator[None]:
        runner.start()
        on_ready()
        yield
        runner.stop()

    server, api = Server(runner, tokens, ends), "/repos/{owner}/{name}"
    calls: list[tuple[str, str, Callable[..., Response], str]] = [  # the last: what a run's token needs
        ("GET", "", server.about, READ),
        ("POST", "/actions/workflows/{file}/dispatches", server.dispatch, "actions"),
        ("GET", "/actions/workflows/{file}/runs", server.runs, READ),
        ("GET", "/actions/runs", server.runs, READ),
        ("GET", "/actions/runs/{id:int}", server.run, READ),
        ("POST", "/actions/runs/{id:int}/cancel", server.cancel, "actions"),
        ("GET", "/actions/runs/{id:int}/logs", server.log, READ),
        ("GET", "/actions/runs/{id:int}/summary", server.summary, READ),
        ("GET", "/pulls", server.pulls, READ),
        ("POST", "/pulls", server.open_pull, "pull-requests"),
        ("GET", "/pulls/{number:int}", server.pull, READ),
        ("PATCH", "/pulls/{number:int}", server.edit_pull, "pull-requests"),
        ("PUT", "/pulls/{number:int}/merge", server.merge, "contents"),
        ("GET", "/issues/{number:int}/comments", server.comments, READ),
        ("POST", "/issues/{number:int}/comments", server.add_comment, "pull-requests"),
        ("PATCH", "/issues/comments/{id:int}", server.edit_comment, "pull-requests"),
        ("POST", "/statuses/{sha}", server.add_status, "statuses"),
        ("GET", "/commits/{ref}/statuses", server.statuses, READ),
    ]
    routes = [
        Route(start + api + path, server.endpoint(call, need), methods=[how])
        for how, path, call, need in calls
        for start in ("", ENTERPRISE)
    ]
    timer = server.endpoint(server.schedule, READ)
    own = Route("/_schedule/{owner}/{name}/{file}", timer, methods=["POST"])
    git = Route("/{owner}/{name}/{path:path}", server.git, methods=["GET", "POST"])
    return Starlette(routes=[*routes, own, git], lifespan=life, exception_handlers={HTTPException: _message})


async def _message(_: Request, error: Exception) -> Response:
    known = error if isinstance(error, HTTPException) else HTTPException(500)
    return JSONResponse({"message": known.detail}, known.status_code, headers=known.headers)


def _token(authorization: str) -> str:
    """The token of an Authorization header: Bearer, token, or the password of Basic."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() != "basic":
        return value
    try:
        return base64.b64decode(value).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""


class Call:
    """One authorised REST call: which repository, who, and what was sent."""

    def __init__(self, repo: Repository, who: str, request: Request, body: dict[str, Any]) -> None:
        self.repo, self.who, self.body = repo, who, body
        self.path, self.query = request.path_params, request.query_params

    def text(self, key: str) -> str:
        """A field of the body that must be there."""
        if not isinstance(self.body.get(key), str) or not self.body[key]:
            raise HTTPException(422, f"Validation Failed: {key} is missing")
        return str(self.body[key])

    def page(self, found: list[Any]) -> list[Any]:
        """The page that was asked for: 30 a page unless told."""
        size, page = int(self.query.get("per_page", 30)), int(self.query.get("page", 1))
        return found[(page - 1) * size : page * size]


class Server:
    """The answers. Each takes a Call and returns a Response."""

    def __init__(self, runner: Runner, tokens: dict[str, str], ends: datetime) -> None:
        self.runner, self.state, self.tokens = runner, runner.state, tokens
        self.ends = {ENDS: f"{ends:%Y-%m-%d %H:%M:%S} UTC"}
        self.refs_lock = threading.Lock()  # held while refs move, so that each move is seen once

    # Who asks, for what

    def who(self, request: Request, need: str) -> str:
        """`person` or `bot`, by token; a run's token must have been granted to write what it is to write."""
        token = _token(request.headers.get("authorization", ""))
        granted = self.runner.grants.get(token)
        if granted is None and token not in self.tokens:
            raise HTTPException(401, "Bad credentials", {"WWW-Authenticate": 'Basic realm="GitHub"'})
        if granted is not None and need != READ and need not in granted:
            raise HTTPException(403, f"Resource not accessible by integration: needs {need}: write")
        return self.tokens.get(token, "bot")

    def repository(self, request: Request) -> Repository:
        """The repository that the path names."""
        name = request.path_params["name"].removesuffix(".git")
        repo = self.runner.hosting.find(f"{request.path_params['owner']}/{name}")
        if repo is None:
            raise HTTPException(404, "Not Found")
        return repo

    def endpoint(self, call: Callable[[Call], Response], need: str) -> Callable[[Request], Any]:
        """Wrap a call: authorise, read the body, and answer off the event loop."""

        async def answer(request: Request) -> Response:
            who, repo = self.who(request, need), self.repository(request)
            try:
                body = await request.json() if await request.body() else {}
            except ValueError:
                raise HTTPException(400, "Problems parsing JSON") from None
            found = await run_in_threadpool(call, Call(repo, who, request, body))
            if (
                _token(request.headers.get("authorization", "")) in self.tokens
            ):  # a run's says nothing of its end
                found.headers.update(self.ends)
            return found

        return answer

    # Git

    async def git(self, request: Request) -> Response:
        """Clone, fetch and push, by `git http-backend`."""
        pushes = "git-receive-pack" in f"{request.url.path}?{request.url.query}"
        who, repo = self.who(request, "contents" if pushes else READ), self.repository(request)
        header = {"content-encoding": "HTTP_CONTENT_ENCODING", "git-protocol": "GIT_PROTOCOL"}
        environment = {
            "REQUEST_METHOD": request.method,
            "QUERY_STRING": request.url.query,
            "CONTENT_TYPE": request.headers.get("content-type", ""),
            "PATH_INFO": f"/{repo.name}.git/{request.path_params['path']}",
            "REMOTE_USER": shapes.LOGINS[who],
            **{name: request.headers[key] for key, name in header.items() if key in request.headers},
        }
        body = await request.body()
        serve = self._receive if request.url.path.endswith("/git-receive-pack") else self._serve
        status, headers, content = await run_in_threadpool(serve, repo, environment, body, who)
        return Response(content, status, headers)

    def _serve(self, repo: Repository, environment: dict[str, str], body: bytes, who: str) -> Any:
        return backend(self.runner.hosting.root, environment, body)

    def _receive(self, repo: Repository, environment: dict[str, str], body: bytes, who: str) -> Any:
        with self.refs_lock:
            before = repo.refs()
            answer = backend(self.runner.hosting.root, environment, body)
            triggers.pushed(self.runner, repo, before, repo.refs(), who)
        return answer

    def about(self, call: Call) -> Response:
        """The repository."""
        return JSONResponse(shapes.repository(self.runner, call.repo))

    # Actions

    def dispatch(self, call: Call) -> Response:
        try:
            inputs = call.body.get("inputs") or {}
            who, ref, file = call.who, call.text("ref"), call.path["file"]
            run = triggers.dispatched(self.runner, call.repo, file, ref=ref, given=inputs, who=who)
        except LookupError:
            raise HTTPException(404, "Not Found") from None
        except Unprocessable as error:
            raise HTTPException(422, str(error)) from None
        if not call.body.get("return_run_details"):
            return Response(status_code=204)
        shown = shapes.run(self.runner, call.repo, run)
        names = {"workflow_run_id": "id", "run_url": "url", "html_url": "html_url"}
        return JSONResponse({theirs: shown[ours] for theirs, ours in names.items()})

    def cancel(self, call: Call) -> Response:
        if not self.runner.cancel(self._find(call, "runs", "id")):
            raise HTTPException(409, "Cannot cancel a workflow run that is completed.")
        return JSONResponse({}, 202)

    def schedule(self, call: Call) -> Response:
        """The stand-in's own: what the timer would do."""
        try:
            run = triggers.scheduled(self.runner, call.repo, call.path["file"])
        except LookupError:
            raise HTTPException(404, "Not Found") from None
        return JSONResponse(shapes.run(self.runner, call.repo, run), 201)

    def runs(self, call: Call) -> Response:
        with self.state.look() as data:
            found = [run for run in reversed(data["runs"]) if self._asked_for(call, run)]
            shown = [shapes.run(self.runner, call.repo, run) for run in call.page(found)]
        return JSONResponse({"total_count": len(found), "workflow_runs": shown})

    def _asked_for(self, call: Call, run: dict[str, Any]) -> bool:
        file, query = call.path.get("file"), call.query
        fits = {
            "status": query.get("status") in (run["status"], run["conclusion"]),
            "event": query.get("event") == run["event"],
            "branch": query.get("branch") == run["head_branch"],
            "head_sha": query.get("head_sha") == run["head_sha"],
            "created": run["created_at"] >= query.get("created", "").removeprefix(">="),
        }
        mine = run["repository"] == call.repo.name and (not file or run["path"].endswith(f"/{file}"))
        return mine and all(fits[key] for key in fits if key in query)

    def run(self, call: Call) -> Response:
        return JSONResponse(shapes.run(self.runner, call.repo, self._find(call, "runs", "id")))

    def summary(self, call: Call) -> Response:
        """The stand-in's own: what GitHub shows on the run's page."""
        return self._text(self.runner.summary(self._find(call, "runs", "id")))

    def log(self, call: Call) -> Response:
        return self._text(self.runner.log(self._find(call, "runs", "id")))

    def _text(self, path: Path) -> Response:
        return PlainTextResponse(path.read_text(errors="replace") if path.exists() else "")

    # Pull requests

    def pulls(self, call: Call) -> Response:
        state, head, base = call.query.get("state", "open"), call.query.get("head"), call.query.get("base")
        with self.state.look() as data:
            found = [
                pull
                for pull in reversed(data["pulls"])
                if pull["repository"] == call.repo.name
                and state in (pull["state"], "all")
                and head in (None, f"{pull['head_repository'].split('/')[0]}:{pull['head_ref']}")
                and base in (None, pull["base_ref"])
            ]
        return JSONResponse([triggers.shape(self.runner, call.repo, pull) for pull in call.page(found)])

    def open_pull(self, call: Call) -> Response:
        owner, _, head = call.text("head").rpartition(":")
        base, source = call.text("base"), self._source(call.repo, owner)
        sha, base_sha = source.resolve(f"refs/heads/{head}"), call.repo.resolve(f"refs/heads/{base}")
        if sha is None or base_sha is None:
            raise HTTPException(422, f"Validation Failed: {'head' if sha is None else 'base'} is invalid")
        call.repo.borrow(source, sha)
        if not call.repo.git("rev-list", "-1", f"{base_sha}..{sha}"):
            raise HTTPException(422, f"Validation Failed: No commits between {base} and {head}")
        with self.refs_lock:
            pull = self._new_pull(call, source, head, base, sha)
            triggers.pull_changed(self.runner, call.repo, pull, "opened", call.who)
        return JSONResponse(triggers.shape(self.runner, call.repo, pull), 201)

    def _source(self, repo: Repository, owner: str) -> Repository:
        """Where a pull request comes from: another owner's repository of the same name is a fork."""
        name = f"{owner or repo.name.split('/')[0]}/{repo.name.split('/')[1]}"
        if (found := self.runner.hosting.find(name)) is None:
            raise HTTPException(422, "Validation Failed: head is invalid")
        return found

    def _new_pull(self, call: Call, source: Repository, head: str, base: str, sha: str) -> dict[str, Any]:
        with self.state.change() as data:
            mine = [pull for pull in data["pulls"] if pull["repository"] == call.repo.name]
            asked = (source.name, head, base)
            if any(
                p["state"] == "open" and (p["head_repository"], p["head_ref"], p["base_ref"]) == asked
                for p in mine
            ):
                raise HTTPException(422, f"Validation Failed: A pull request already exists for {head}.")
            return self.state.add(
                "pulls",
                repository=call.repo.name,
                number=len(mine) + 1,
                title=call.text("title"),
                body=call.body.get("body"),
                user={"login": shapes.LOGINS[call.who]},
                state="open",
                merged=False,
                merged_at=None,
                merge_commit_sha=None,
                head_repository=source.name,
                head_ref=head,
                head_sha=sha,
                base_ref=base,
            )

    def pull(self, call: Call) -> Response:
        return JSONResponse(triggers.shape(self.runner, call.repo, self._find(call, "pulls", "number")))

    def edit_pull(self, call: Call) -> Response:
        pull = self._find(call, "pulls", "number")
        changes = {key: call.body[key] for key in ("title", "body", "state") if key in call.body}
        if changes.get("state", "open") not in ("open", "closed"):
            raise HTTPException(422, "Validation Failed: state")
        self.state.update(pull, **changes)
        return JSONResponse(triggers.shape(self.runner, call.repo, pull))

    def merge(self, call: Call) -> Response:
        pull = self._find(call, "pulls", "number")
        method = call.body.get("merge_method", "merge")
        if method not in ("merge", "squash"):
            raise HTTPException(422, f"Validation Failed: merge_method {method}")
        with self.refs_lock:
            if call.body.get("sha", pull["head_sha"]) != pull["head_sha"]:
                raise HTTPException(409, "Head branch was modified. Review and try the merge again.")
            before = call.repo.refs()
            sha = self._merged(call, pull, method, before[f"refs/heads/{pull['base_ref']}"])
            self.state.update(pull, state="closed", merged=True, merge_commit_sha=sha, merged_at=now())
            triggers.pushed(self.runner, call.repo, before, call.repo.refs(), call.who)
        return JSONResponse({"sha": sha, "merged": True, "message": "Pull Request successfully merged"})

    def _merged(self, call: Call, pull: dict[str, Any], method: str, base: str) -> str:
        """Write the merge and move the base branch to it; 405 when that cannot be."""
        tree = call.repo.merged_tree(base, pull["head_sha"]) if pull["state"] == "open" else None
        if tree is None:
            raise HTTPException(405, "Pull Request is not mergeable")
        subject, text = self._words(call.repo, pull, method, base)
        message = f"{call.body.get('commit_title', subject)}\n\n{call.body.get('commit_message', text)}"
        parents = [base] if method == "squash" else [base, pull["head_sha"]]
        sha = call.repo.commit(tree, parents, message.strip() + "\n", shapes.LOGINS[call.who])
        try:
            call.repo.move(f"refs/heads/{pull['base_ref']}", sha, base)
        except GitFailed:
            raise HTTPException(405, "Base branch was modified. Review and try the merge again.") from None
        return sha

    def _words(self, repo: Repository, pull: dict[str, Any], method: str, base: str) -> tuple[str, str]:
        """GitHub's own message: a squash of one commit keeps that commit's, trailers and all."""
        number, title = pull["number"], pull["title"]
        if method == "merge":
            return f"Merge pull request #{number} from {repo.name.split('/')[0]}/{pull['head_ref']}", title
        commits = repo.git("rev-list", "--reverse", f"{base}..{pull['head_sha']}").splitlines()
        messages = [str(repo.commit_facts(commit)["message"]) for commit in commits]
        if len(messages) == 1:
            title, _, text = messages[0].partition("\n")
            return f"{title} (#{number})", text.strip()
        return f"{title} (#{number})", "\n\n".join(f"* {message}" for message in messages)

    # Comments and statuses

    def comments(self, call: Call) -> Response:
        self._find(call, "pulls", "number")
        return JSONResponse(call.page(self._of(call, "comments", issue=call.path["number"])))

    def add_comment(self, call: Call) -> Response:
        number = self._find(call, "pulls", "number")["number"]
        user = {"login": shapes.LOGINS[call.who], "type": "Bot" if call.who == "bot" else "User"}
        fields = {"repository": call.repo.name, "issue": number, "user": user, "body": call.text("body")}
        return JSONResponse(self.state.add("comments", **fields), 201)

    def edit_comment(self, call: Call) -> Response:
        comment = self._find(call, "comments", "id")
        self.state.update(comment, body=call.text("body"))
        return JSONResponse(comment)

    def add_status(self, call: Call) -> Response:
        sha, state = call.repo.resolve(call.path["sha"]), call.text("state")
        if sha is None or state not in ("error", "failure", "pending", "success"):
            raise HTTPException(422, f"Validation Failed: {'sha' if sha is None else 'state'}")
        kept = {key: call.body.get(key) for key in ("description", "target_url")}
        context = call.body.get("context", "default")
        fields = {"repository": call.repo.name, "sha": sha, "state": state, "context": context, **kept}
        return JSONResponse(self.state.add("statuses", **fields), 201)

    def statuses(self, call: Call) -> Response:
        found = self._of(call, "statuses", sha=call.repo.resolve(call.path["ref"]))
        return JSONResponse(call.page(found[::-1]))

    # Records

    def _of(self, call: Call, kind: str, **fields: Any) -> list[dict[str, Any]]:
        wanted = {"repository": call.repo.name, **fields}
        with self.state.look() as data:
            return [r for r in data[kind] if all(r[key] == value for key, value in wanted.items())]

    def _find(self, call: Call, kind: str, key: str) -> dict[str, Any]:
        found = self._of(call, kind, **{key: call.path[key]})
        if not found:
            raise HTTPException(404, "Not Found")
        return found[0]
