"""The HTTP application of an image: /predict, /v2, /health, /metrics, /openapi.json and the probes.

Requests to /predict bypass Starlette's routes because that is faster. If asgi.py adds a middleware, they go
through Starlette, so that the middleware sees them.
"""

import logging
from asyncio import timeout
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from random import getrandbits
from time import perf_counter
from typing import Annotated, Any

import msgspec
from msgspec import Meta
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
from loop.runtime.rows import LONGEST_ID, BadRequest, Rows

LARGE, ENCODED, OVERLOAD = 413, 415, 429
GONE = 499  # the status, never sent or counted, of a request whose client has closed the connection
BODY_SECONDS = 10.0  # time limit in seconds from the first to the last part of a request's body
# Time limit in seconds for reading and discarding a refused body, once before its response and once after it.
UNREAD_SECONDS = 5.0
# Maximum bytes of all request bodies that are being received at the same time; further requests are refused.
HELD = 64 * 1024 * 1024

# type of the functions that decode a request's body with its headers
Read = Callable[[bytes, dict[bytes, bytes]], tuple[Rows, Encode]]
logger = logging.getLogger(__name__)


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The limits that a model's asgi.py may set."""

    max_rows: Annotated[int, Meta(ge=1, le=1_000_000)] = 1000  # of a request
    max_bytes: Annotated[int, Meta(ge=1, le=HELD)] = 1024 * 1024  # of a request's body
    # requests that wait for their scores, beyond which further requests are answered with 429
    max_waiting: Annotated[int, Meta(ge=1, le=1_000_000)] = 256


class App(Starlette):
    """The application that serves the model in `folder`, which is loaded when the application starts.

    `load` creates the scorer from the folder with meta.json. Predictions are logged to PREDICTION_LOG_DIR if
    it is set, and kept for PREDICTION_LOG_DAYS days. Raises ValidationError if a limit is out of range.
    """

    predictor: Predictor

    def __init__(self, folder: Path, load: Callable[[Path], Scorer], **limits: int) -> None:
        self._folder, self._load, self._limits = folder, load, msgspec.convert(limits, Limits)
        self.max_bytes = self._limits.max_bytes
        self.draining = False  # if it is set, /readyz is 503, and responses ask to close the connection
        self._held = 0
        handlers: Any = {HTTPException: _refuse, Exception: _failed}
        super().__init__(lifespan=self._lifespan, exception_handlers=handlers)
        # Starlette would redirect to http:// even if the gateway was called by https://
        self.router.redirect_slashes = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
        elif scope["path"] == "/predict" and scope["method"] == "POST" and not self.user_middleware:
            await self._predict(scope, receive, send, self.predictor.read, direct=True)
        elif scope["path"].endswith("/") and scope["path"] != "/":
            await self({**scope, "path": scope["path"].rstrip("/") or "/"}, receive, send)
        else:
            await super().__call__(scope, receive, self._counted(endpoint(scope["path"]), send))

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        model = Model.load(self._folder, self._load)
        release, meta, log = model.release, model.meta, None
        classes, edges = meta.classes or ("",), meta.score_edges or SCORE
        metrics = Metrics(release.model, release.key, classes, release.p99_ms, edges)
        found = settings.read()
        if found.prediction_log_dir:
            folder = Path(found.prediction_log_dir)
            log = PredictionLog(folder, release, metrics.dropped, found.prediction_log_days)
        self.predictor = Predictor(model, metrics, log, self._limits.max_rows, self._limits.max_waiting)
        self.router.routes.extend(self._routes(model))
        yield
        self.predictor.close()

    def _routes(self, model: Model) -> Iterator[Route]:
        """Yield the routes of a model, whose name is in their paths."""
        release, decoder = model.release, self.predictor.decoder
        mine = f"/v2/models/{release.model}"
        reads: dict[str, Read] = {
            "/predict": self.predictor.read,
            f"{mine}/infer": partial(v2.read, model=model, decoder=decoder),
        }
        if openai.speaks(model):
            reads["/v1/embeddings"] = partial(openai.read, model=model, decoder=decoder)
        for path, read in reads.items():
            yield Route(path, partial(self._routed, read=read), methods=["POST"])
        described = openapi.document(model, decoder, self.max_bytes)
        documents = {
            "/health": {"status": "ok", "model_version": release.key, "engine": release.engine},
            "/openapi.json": described,
            "/docs.json": described,
            "/v2": {"name": release.model, "version": release.key, "extensions": v2.EXTENSIONS},
            mine: v2.metadata(model),
        }
        for path, document in documents.items():
            yield Route(path, partial(_made, make=partial(_json, document)))
        for path in ("/livez", "/healthz", "/v2/health/live"):
            yield Route(path, partial(_made, make=partial(PlainTextResponse, "\n")))
        for path in ("/readyz", "/v2/health/ready", f"{mine}/ready"):
            yield Route(path, self._ready)
        yield Route("/metrics", self._metrics)

    async def _routed(self, _: Request, read: Read) -> Any:
        """Answer a prediction behind Starlette's routes; returns an ASGI application that Starlette calls."""
        return partial(self._predict, read=read)

    async def _predict(
        self, scope: Scope, receive: Receive, send: Send, read: Read, *, direct: bool = False
    ) -> None:
        """Answer a prediction. The response is counted here if it is `direct`, otherwise by `_counted`."""
        headers, metrics = dict(scope["headers"]), self.predictor.metrics
        metrics.came()
        try:
            answer = await self._answer(headers, receive, read)
        except Gone:
            if not direct:  # a middleware expects a response to every request
                await send({"type": "http.response.start", "status": GONE, "headers": []})
                await send({"type": "http.response.body"})
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
        """Receive and decode a body, and return the response to it."""
        try:
            self.predictor.check_waiting(unread=True)
            if int(headers.get(b"content-length", b"0")) > self.max_bytes:
                raise self._too_large(unread=True)
            body = await self._body(receive)
            _check_plain(headers.get(b"content-encoding", b"identity"))
            came = perf_counter()
            self.predictor.check_waiting()
            rows, encode = read(body, headers)
        except BadRequest as bad:
            refused = self.predictor.refused(bad)
        else:
            return await self.predictor.predict(rows, encode, came)
        if refused.unread and refused.status == LARGE and b"expect" not in headers:
            return refused._replace(unread=not await self._ended(receive))
        return refused

    async def _body(self, receive: Receive) -> bytes:
        """Return the request's body. Raises BadRequest after `max_bytes` bytes or BODY_SECONDS seconds."""
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
            said = f"the body was not received within {BODY_SECONDS:g} s"
            raise BadRequest(said, status=408, unread=True) from None
        finally:
            self._held -= len(body)
        return bytes(body)

    def _hold(self, body: bytearray, message: Message) -> None:
        """Append a part to the body. Raises BadRequest if it, or all bodies together, are too large."""
        part, unread = _part(message), message.get("more_body", False)
        body += part
        self._held += len(part)
        if len(body) > self.max_bytes:
            raise self._too_large(unread=unread)
        if self._held > HELD:
            raise BadRequest("too many bodies are being received", status=OVERLOAD, unread=unread)

    def _too_large(self, *, unread: bool) -> BadRequest:
        return BadRequest(f"the body is over {self.max_bytes} bytes", status=LARGE, unread=unread)

    async def _ended(self, receive: Receive) -> bool:
        """Read and discard a refused body; returns whether it ended within UNREAD_SECONDS."""
        # Many clients do not read a response before they have sent the whole body, and a gateway that gets an
        # early response closes the connection.
        with suppress(TimeoutError):
            async with timeout(UNREAD_SECONDS):
                while (message := await receive()).get("more_body"):
                    pass
                _part(message)
            return True
        return False

    def headers(self, answer: Answer, request_id: bytes, *, closes: bool) -> list[tuple[bytes, bytes]]:
        """Return a response's headers, with the caller's X-Request-ID or a new one."""
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
            headers.append((b"accept-encoding", b"identity"))
        if closes:
            headers.append((b"connection", b"close"))
        return headers

    def _counted(self, path: str, send: Send) -> Send:
        """Return a `send` that also counts the response."""

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] != GONE:
                self.predictor.metrics.answered(path, message["status"])
                if self.draining and path != "/predict":
                    message["headers"] = [*message["headers"], (b"connection", b"close")]
            await send(message)

        return counted

    async def _metrics(self, _: Request) -> Response:
        page = self.predictor.metrics.page()
        return Response(page, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def _ready(self, _: Request) -> Response:
        return PlainTextResponse("\n", 503 if self.draining else 200)


class Gone(Exception):
    """The client has closed the connection."""


create = App  # the name by which asgi.py calls it


async def _made(_: Request, make: Callable[[], Response]) -> Response:
    return make()  # a new response for each request, because a middleware may change its headers


async def _refuse(_: Request, error: Any) -> Response:
    """Answer an unknown path or method with JSON, like every other error."""
    return _json({"error": error.detail, "field": ""}, error.status_code, error.headers)


async def _failed(request: Request, _: Exception) -> Response:
    """Answer an exception of the server or of a middleware with 500; the exception is logged."""
    if request.scope["path"] == "/predict":
        request.app.predictor.metrics.failed("model")
    return _json({"error": "the server failed: see its log", "field": ""}, 500)


def _check_plain(coding: bytes) -> None:
    if coding.lower() not in (b"", b"identity"):
        raise BadRequest("the body has a Content-Encoding; send it without one", status=ENCODED)


def _part(message: Message) -> bytes:
    if message["type"] == "http.disconnect":
        raise Gone
    return bytes(message.get("body", b""))


def endpoint(path: str) -> str:
    """Return a path's label: all inference counts as /predict, which alerts and the canary judge query."""
    if path == "/v1/embeddings":
        return "/predict"
    if path.startswith("/v2"):
        return "/predict" if path.endswith("/infer") else "/v2"
    return path


def _plain(request_id: bytes) -> bool:
    return 0 < len(request_id) <= LONGEST_ID and request_id.isascii() and request_id.decode().isprintable()


def _json(content: Any, status: int = 200, headers: Any = None) -> Response:
    return Response(msgspec.json.encode(content), status, headers, media_type="application/json")
