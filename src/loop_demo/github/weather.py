"""GitHub on a bad day: rate limits, a bad gateway and dropped connections, decided by a seed."""

import asyncio
import random
import threading

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

KINDS = ("429", "403", "502", "dropped before", "dropped after")
MOST = 2  # bad calls one after the other, so that a client that tries four times gets through
LIMITED = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."


class Dropped(Response):
    """No answer: the connection is closed instead."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["close"]()
        await asyncio.sleep(0.01)  # until the server has seen that nobody is there to answer


class Closable:
    """Lets an answer close its connection; uvicorn offers no other way than its own transport."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope["close"] = send.__self__.transport.abort  # type: ignore[attr-defined]
        await self.app(scope, receive, send)


class Weather:
    """Says for each REST call what goes wrong with it. Without a seed nothing does."""

    def __init__(self, seed: int | None, rate: float) -> None:
        self._random = None if seed is None else random.Random(seed)  # noqa: S311 - repeatable, not secret
        self._rate, self._lock, self._in_a_row = rate, threading.Lock(), 0

    def draw(self) -> str | None:
        """One of KINDS, or None for a call that goes well."""
        if self._random is None:
            return None
        with self._lock:
            bad, kind = self._random.random() < self._rate, self._random.choice(KINDS)
            self._in_a_row = self._in_a_row + 1 if bad and self._in_a_row < MOST else 0
            return kind if self._in_a_row else None


def instead(kind: str | None) -> Response | None:
    """What is answered while the call is not performed; None where it is."""
    if kind in ("429", "403"):
        return JSONResponse({"message": LIMITED}, int(kind), {"retry-after": "1"})
    if kind == "502":
        return Response("<html><h1>502 Bad Gateway</h1></html>", 502, media_type="text/html")
    return Dropped() if kind == "dropped before" else None
