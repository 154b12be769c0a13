"""The HTTP face of a bento: /predict, /v2, /health, /metrics, /openapi.json and the probes.

/predict does not go through Starlette's routes unless somebody adds a middleware, which then sees all of it.
"""

import logging
from asyncio import Future, get_running_loop, timeout
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from random import getrandbits
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from loop.runtime import openai, openapi, settings, v2
from loop.runtime.log import PredictionLog
from loop.runtime.metrics import SCORE, Metrics
from loop.runtime.model import Model, Scorer
from loop.runtime.predictor import Answer, Encode, Predictor
from loop.runtime.rows import LONGEST_ID, BadRequest, Rows, decoded

LARGE, ENCODED, OVERLOAD = 413, 415, 429
METRICS = "text/plain; version=0.0.4; charset=utf-8"
BODY_SECONDS = 10.0  # from a request's headers to the end of its body
UNREAD_SECONDS = 5.0  # in which a refused body is read and thrown away, before its answer and again after it
HELD = 64 * 1024 * 1024  # bytes of all bodies that are still coming; with more, a request is refused
LARGEST = HELD  # bytes of one body that a model's asgi.py may allow
MOST = 1_000_000  # rows of a request, or requests that wait, that a model's asgi.py may ask for

Headers = list[tuple[bytes, bytes]]
Read = Callable[[bytes, dict[bytes, bytes]], tuple[Rows, Encode]]  # a body and the headers: what is asked
logger = logging.getLogger(__name__)


class App(Starlette):
    """A model's application; what it serves is there once its lifespan has begun."""

    def __init__(self, folder: Path, load: Callable[[Path], Scorer], **limits: int) -> None:
        self._folder, self._load, self._limits = folder, load, limits
        self.max_bytes = limits.pop("max_bytes")
        self.draining = False
        self._held = 0
        routes = [
            Route("/predict", self._routed, methods=["POST"]),
            Route("/health", self._health),
            Route("/metrics", self._metrics),
            *(Route(path, self._document) for path in ("/openapi.json", "/docs.json")),
            *(Route(path, self._alive) for path in ("/livez", "/healthz")),
            Route("/readyz", self._ready),
            Route("/v2", self._server),
            Route("/v2/health/live", self._alive),
            Route("/v2/health/ready", self._ready),
            Route("/v2/models/{name}", self._described),
            Route("/v2/models/{name}/ready", self._ready),
            Route("/v2/models/{name}/infer", self._infer, methods=["POST"]),
            Route("/v1/embeddings", self._embeddings, methods=["POST"]),
        ]
        handlers: Any = {HTTPException: _refuse, Exception: _failed}
        super().__init__(routes=routes, lifespan=self._lifespan, exception_handlers=handlers)
        self.router.redirect_slashes = False  # to http://, whatever the gateway was asked by

    predictor: Predictor

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer /predict at once; leave the rest to Starlette."""
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
        elif self.direct and scope["path"] == "/predict" and scope["method"] == "POST":
            await self._predict(scope, receive, send, self.predictor.read, direct=True)
        elif scope["path"].endswith("/") and scope["path"] != "/":
            await self({**scope, "path": scope["path"].rstrip("/") or "/"}, receive, send)
        else:
            await super().__call__(scope, receive, self._counted(endpoint(scope["path"]), send))

    @property
    def direct(self) -> bool:
        """Whether nothing stands between the server and /predict."""
        return not self.user_middleware

    def drain(self) -> None:
        """Be ready no more; go on answering, and ask for each connection to be closed."""
        self.draining = True

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        model = Model.load(self._folder, self._load)
        release, log = model.release, None
        metrics = Metrics(
            release.model,
            release.key,
            model.meta.classes or ("",),
            release.p99_ms,
            model.meta.score_edges or SCORE,
        )
        if where := settings.log_dir():
            days = settings.number("PREDICTION_LOG_DAYS")
            log = PredictionLog(where, release, metrics.dropped, days=days)
        self.predictor = Predictor(model, metrics, log, **self._limits)
        yield
        self.predictor.close()

    async def _routed(self, _: Request) -> Any:
        """/predict behind a middleware: an answer that Starlette calls."""
        return partial(self._predict, read=self.predictor.read)

    async def _infer(self, request: Request) -> Any:
        """POST /v2/models/<name>/infer."""
        self._check_name(request)
        model, decoder = self.predictor.model, self.predictor.decoder
        return partial(self._predict, read=partial(v2.read, model=model, decoder=decoder))

    async def _embeddings(self, _: Request) -> Any:
        """POST /v1/embeddings."""
        model, decoder = self.predictor.model, self.predictor.decoder
        if not openai.speaks(model):
            raise HTTPException(404)
        return partial(self._predict, read=partial(openai.read, model=model, decoder=decoder))

    async def _predict(
        self, scope: Scope, receive: Receive, send: Send, read: Read, *, direct: bool = False
    ) -> None:
        """Answer a prediction; counted here where it comes `direct`, by `_counted` otherwise."""
        headers, metrics = dict(scope["headers"]), self.predictor.metrics
        metrics.came()
        try:
            answer = await self._answer(headers, receive, read)
        except Gone:
            return
        except Exception:
            logger.exception("a request failed")
            answer = self.predictor.broke()
        finally:
            metrics.gone()
        if direct:
            metrics.answered("/predict", answer.status)
        closes = self.draining or (answer.unread and answer.status != OVERLOAD)
        said = self.headers(answer, headers.get(b"x-request-id", b""), closes=closes)
        await send({"type": "http.response.start", "status": answer.status, "headers": said})
        if closes and answer.unread:
            await send({"type": "http.response.body", "body": answer.body, "more_body": True})
            with suppress(Gone):
                await self._ended(receive)
            await send({"type": "http.response.body"})
        else:
            await send({"type": "http.response.body", "body": answer.body})

    async def _answer(self, headers: dict[bytes, bytes], receive: Receive, read: Read) -> Answer:
        """The answer to a body that is still to come."""
        try:
            if self.predictor.full:
                raise BadRequest("too many requests wait", status=OVERLOAD, reason="overload", unread=True)  # noqa: TRY301
            if int(headers.get(b"content-length", b"0")) > self.max_bytes:
                raise self._too_large(unread=True)
            body = await self._body(receive)
            if coding := headers.get(b"content-encoding"):
                body = decoded(body, coding, self.max_bytes)
        except BadRequest as bad:
            refused = self.predictor.refused(bad)
        else:
            future: Future[Answer] = get_running_loop().create_future()
            self.predictor.submit(
                partial(read, body, headers),
                lambda answer: None if future.done() else future.set_result(answer),
            )
            return await future
        if refused.unread and refused.status == LARGE and b"expect" not in headers:
            return refused._replace(unread=not await self._ended(receive))
        return refused

    async def _body(self, receive: Receive) -> bytes:
        """The body, read no further than `max_bytes` and no longer than BODY_SECONDS."""
        message = await receive()
        if not message.get("more_body"):
            part = _part(message)
            if len(part) > self.max_bytes:
                raise self._too_large(unread=False)
            return part
        body = bytearray()
        try:
            async with timeout(BODY_SECONDS):
                self._hold(body, message)
                while message.get("more_body"):
                    message = await receive()
                    self._hold(body, message)
        except TimeoutError:
            said = "the body did not come to its end"
            raise BadRequest(said, status=408, reason="timeout", unread=True) from None
        finally:
            self._held -= len(body)
        return bytes(body)

    def _hold(self, body: bytearray, message: Message) -> None:
        """Add what came to the body."""
        part, unread = _part(message), message.get("more_body", False)
        body += part
        self._held += len(part)
        if len(body) > self.max_bytes:
            raise self._too_large(unread=unread)
        if self._held > HELD:
            said = "too many bodies are still coming"
            raise BadRequest(said, status=OVERLOAD, reason="overload", unread=unread)

    def _too_large(self, *, unread: bool) -> BadRequest:
        return BadRequest(
            f"the body is over {self.max_bytes} bytes", status=LARGE, reason="size", unread=unread
        )

    async def _ended(self, receive: Receive) -> bool:
        """Whether a refused body ends within UNREAD_SECONDS.

        Many callers read no answer before they have sent all, and a gateway that has one ends the connection.
        """
        with suppress(TimeoutError):
            async with timeout(UNREAD_SECONDS):
                more = True
                while more:
                    message = await receive()
                    _part(message)
                    more = message.get("more_body", False)
            return True
        return False

    def headers(self, answer: Answer, request_id: bytes, *, closes: bool) -> Headers:
        """An answer's headers; the caller's id of the request, or one of our own."""
        headers = [
            (b"content-type", b"application/json" if answer.json is None else b"application/octet-stream"),
            (b"content-length", b"%d" % len(answer.body)),
            (b"x-request-id", request_id if _plain(request_id) else b"%016x" % getrandbits(64)),
        ]
        if answer.json is not None:
            headers.append((v2.HEADER, b"%d" % answer.json))
        if answer.status == OVERLOAD:
            headers.append((b"retry-after", b"1"))
        if answer.status == ENCODED:
            headers.append((b"accept-encoding", b"gzip"))
        if closes:
            headers.append((b"connection", b"close"))
        return headers

    def _counted(self, path: str, send: Send) -> Send:
        """`send` that counts the answer."""

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.predictor.metrics.answered(path, message["status"])
                if self.draining and path != "/predict":
                    message["headers"] = [*message["headers"], (b"connection", b"close")]
            await send(message)

        return counted

    async def _health(self, _: Request) -> Response:
        """GET /health."""
        release = self.predictor.model.release
        return _json({"status": "ok", "model_version": release.key, "engine": release.engine})

    async def _metrics(self, _: Request) -> Response:
        """GET /metrics."""
        return Response(self.predictor.metrics.page(), media_type=METRICS)

    async def _document(self, _: Request) -> Response:
        """GET /openapi.json."""
        return _json(openapi.document(self.predictor.model, self.predictor.max_rows, self.max_bytes))

    async def _server(self, _: Request) -> Response:
        """GET /v2."""
        release = self.predictor.model.release
        return _json({"name": release.model, "version": release.key, "extensions": v2.EXTENSIONS})

    async def _described(self, request: Request) -> Response:
        """GET /v2/models/<name>."""
        self._check_name(request)
        return _json(v2.metadata(self.predictor.model))

    async def _alive(self, _: Request) -> Response:
        """GET /livez and /v2/health/live."""
        return PlainTextResponse("\n")

    async def _ready(self, request: Request) -> Response:
        """GET /readyz, /v2/health/ready and /v2/models/<name>/ready: not while it drains."""
        self._check_name(request)
        return PlainTextResponse("\n", 503 if self.draining else 200)

    def _check_name(self, request: Request) -> None:
        """404 for a model that is not served here."""
        mine = self.predictor.model.release.model
        if (name := request.path_params.get("name", mine)) != mine:
            raise HTTPException(404, f"no model {name[:LONGEST_ID]!r} is here; it is {mine!r}")


class Gone(Exception):
    """The caller has hung up."""


def create(
    folder: Path,
    load: Callable[[Path], Scorer],
    *,
    max_rows: int = 1000,
    max_bytes: int = 1024 * 1024,
    max_waiting: int = 256,
) -> App:
    """An app that loads the model in `folder` when it starts, and not before.

    `load` makes the scorer from the folder with meta.json. When `max_waiting` requests wait to be scored,
    others are answered 429. Predictions are logged below PREDICTION_LOG_DIR, where that is set, and kept for
    PREDICTION_LOG_DAYS. WrongSetting where a limit is out of its range.
    """
    return App(
        folder,
        load,
        max_rows=settings.limit("max_rows", max_rows, MOST),
        max_bytes=settings.limit("max_bytes", max_bytes, LARGEST),
        max_waiting=settings.limit("max_waiting", max_waiting, MOST),
    )


async def _refuse(_: Request, error: Exception) -> Response:
    """No such path, or another method: JSON like every other answer."""
    assert isinstance(error, HTTPException)  # noqa: S101 - Starlette's signature is wider than its use
    return _json({"error": error.detail, "field": ""}, error.status_code, error.headers)


async def _failed(request: Request, _: Exception) -> Response:
    """Something of the server's own failed, or a middleware did; the server logs what."""
    if request.scope["path"] == "/predict":
        request.app.predictor.metrics.failed("model")
    return _json({"error": "the server failed: see its log", "field": ""}, 500)


def _part(message: Message) -> bytes:
    if message["type"] == "http.disconnect":
        raise Gone
    part: bytes = message.get("body", b"")
    return part


def endpoint(path: str) -> str:
    """What a path is counted as. An inference is a prediction, and rules and judge ask for /predict."""
    if path == "/v1/embeddings":
        return "/predict"
    if path.startswith("/v2"):
        return "/predict" if path.endswith("/infer") else "/v2"
    return path


def _plain(request_id: bytes) -> bool:
    return 0 < len(request_id) <= LONGEST_ID and request_id.isascii() and request_id.decode().isprintable()


def _json(content: Any, status: int = 200, headers: Any = None) -> Response:
    return Response(msgspec.json.encode(content), status, headers, media_type="application/json")
