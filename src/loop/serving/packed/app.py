"""The HTTP face of a bento: /predict, /health, /openapi.json; BentoML adds probes and /metrics around it."""

import os
from asyncio import sleep
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from loop.serving.packed import openapi
from loop.serving.packed.log import PredictionLog
from loop.serving.packed.metrics import Metrics
from loop.serving.packed.model import Model, Scorer
from loop.serving.packed.predictor import Predictor
from loop.serving.packed.rows import BadRequest


def create(
    folder: Path, load: Callable[[Path], Scorer], *, max_rows: int = 1000, max_bytes: int = 1024 * 1024
) -> Starlette:
    """An app that loads the model in `folder` when it starts, and not before.

    `load` makes the scorer from the folder with meta.json. Predictions are logged below
    PREDICTION_LOG_DIR, where that is set.
    """

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        model = Model.load(folder, load)
        metrics = Metrics(model.release.model, model.release.key)
        where = os.environ.get("PREDICTION_LOG_DIR")
        log = PredictionLog(Path(where), metrics.dropped.inc) if where else None
        app.state.predictor = Predictor(model, metrics, log, max_rows)
        app.state.max_bytes = max_bytes
        yield
        if log:
            log.close()

    routes = [
        Route("/predict", predict, methods=["POST"]),
        Route("/health", health),
        Route("/openapi.json", document),
    ]
    return Starlette(routes=routes, lifespan=lifespan, exception_handlers={HTTPException: refuse})


async def predict(request: Request) -> Response:
    """POST /predict."""
    predictor: Predictor = request.app.state.predictor
    with predictor.metrics.in_progress():
        await sleep(0)  # those that came together are all counted before the first one holds the loop
        try:
            status, answer = predictor.predict(await _body(request, request.app.state.max_bytes))
        except BadRequest as bad:
            status, answer = predictor.refuse(bad)
    return _json(answer, status)


async def health(request: Request) -> Response:
    """GET /health."""
    predictor: Predictor = request.app.state.predictor
    return _json(msgspec.json.encode({"status": "ok", "model_version": predictor.model.release.key}))


async def document(request: Request) -> Response:
    """GET /openapi.json."""
    predictor: Predictor = request.app.state.predictor
    return _json(msgspec.json.encode(openapi.document(predictor.model, predictor.max_rows)))


async def refuse(_: Request, error: Exception) -> Response:
    """No such path, or another method: JSON like every other answer."""
    assert isinstance(error, HTTPException)  # noqa: S101 - Starlette's signature is wider than its use
    body = msgspec.json.encode({"error": error.detail, "field": ""})
    return Response(body, error.status_code, error.headers, media_type="application/json")


async def _body(request: Request, most: int) -> bytes:
    """The body, read no further than `most` bytes."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise BadRequest(f"the body is over {most} bytes", status=413, reason="size")
    return bytes(body)


def _json(body: bytes, status: int = 200) -> Response:
    return Response(body, status, media_type="application/json")
