"""Simulates failures of GitHub: rate limits, 502 answers and dropped connections, chosen by a seed."""

import random
from collections.abc import Awaitable, Callable

from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

KINDS = ("429", "403", "502", "dropped before", "dropped after")
RATE = 0.5  # the share of calls that fail
MOST = 2  # the most failed calls in a row, so that a client that tries four times succeeds
LIMITED = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."


class Dropped(Response):
    """A response that ends before its body: the server then closes the connection."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        head = [(b"content-length", b"1")]
        await send({"type": "http.response.start", "status": self.status_code, "headers": head})


class Weather:
    """Chooses for each REST call whether and how it fails. Without a seed no call fails."""

    def __init__(self, seed: int | None) -> None:
        self._random = None if seed is None else random.Random(seed)  # noqa: S311 - repeatable, not secret
        self._in_a_row = 0

    def draw(self) -> str | None:
        """Return the kind of failure for the next call, one of KINDS, or None for no failure."""
        if self._random is None:
            return None
        bad, kind = self._random.random() < RATE, self._random.choice(KINDS)
        self._in_a_row = self._in_a_row + 1 if bad and self._in_a_row < MOST else 0
        return kind if self._in_a_row else None

    async def over(self, perform: Callable[[], Awaitable[Response]]) -> Response:
        """Perform a call and return its answer, or the failure that was drawn for it."""
        kind = self.draw()
        if kind in ("429", "403"):
            return JSONResponse({"message": LIMITED}, int(kind), {"retry-after": "1"})
        if kind == "502":
            return Response("<html><h1>502 Bad Gateway</h1></html>", 502, media_type="text/html")
        answer = Dropped() if kind == "dropped before" else await perform()
        return Dropped() if kind == "dropped after" else answer
