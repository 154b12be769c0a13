"""The server of a bento's image: `python -m loop.serving.packed.serve` in the bento's folder `src`.

BentoML builds, pins and packs the bento, and can serve it (`bentoml serve`); this serves the same application
without what BentoML puts around it. It is one process: the cluster runs as many as are needed, and starts one
again when it has ended.
"""

import argparse
import gc
import importlib
import resource
import socket
import sys
import time
import traceback
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from loop.serving.packed import settings
from loop.serving.packed.app import App

LINGER = 1.0  # seconds, at most, in which connections that are still used end by themselves
GRACE = 20  # seconds for the requests in flight after that
TICKS = 10  # of uvicorn, a tenth of a second each, between two looks at the connections
HEAD_SECONDS = 10.0  # from the begin of a connection, or of a request on it, to the end of the request's head
HEAD, FIELDS = 64 * 1024, 256  # bytes and headers that a request may have beside its body
PIPELINED = 64  # requests that a connection may send before the first of them is answered
KEPT = 3700  # seconds a connection may be idle: longer than Envoy's hour, so that it is the one to close it


class TooMuch(Exception):
    """A request that is refused before it is whole; uvicorn answers 400 and closes the connection."""


class Connection(HttpToolsProtocol):
    """uvicorn's, which also knows since when it has waited for a request's head, and takes no endless one.

    uvicorn keeps all of a head, of what follows a body, and of the requests that wait for their turn.
    """

    waits_since: float | None = None
    beside = 0  # bytes since the request began, or since the last of its body
    asked: Any = None  # the request that is being answered; uvicorn knows the last one that came

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.waits_since = time.monotonic()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.pipeline.clear()  # nobody waits for these answers, nor for the one that is on its way
        if self.asked is not None:
            self.asked.disconnected = True
            self.asked.message_event.set()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self.asked = cycle
        super()._start_asgi_task(cycle, app)

    def data_received(self, data: bytes) -> None:
        if self.beside > HEAD:
            self.send_400_response("The head is too long.")
            return
        self.beside += len(data)
        super().data_received(data)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.waits_since, self.beside = time.monotonic(), 0
        if len(self.pipeline) >= PIPELINED:
            raise TooMuch

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        if len(self.headers) > FIELDS:
            raise TooMuch

    def on_headers_complete(self) -> None:
        self.waits_since = None
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self.beside = 0
        super().on_body(body)


class Server(uvicorn.Server):
    """uvicorn that on SIGTERM is ready no more, answers on for a moment, and then ends."""

    def __init__(self, config: uvicorn.Config, app: App) -> None:
        super().__init__(config)
        self._app, self._since = app, 0.0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        gc.collect()
        gc.freeze()  # what is loaded is looked through no more: that took up to 70 ms each time

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._since:  # a second signal: no more patience
            self.should_exit = True
        self._since = self._since or time.monotonic()
        self._app.drain()

    async def on_tick(self, counter: int) -> bool:
        idle = not self.server_state.connections or time.monotonic() - self._since > LINGER
        self.should_exit |= bool(self._since) and idle
        if not counter % TICKS:
            self._close_the_slow()
        return await super().on_tick(counter)

    def _close_the_slow(self) -> None:
        """Close what has sent no whole head for long, so that such connections can't fill the server."""
        begun_before = time.monotonic() - HEAD_SECONDS
        for connection in list(self.server_state.connections):
            if (since := getattr(connection, "waits_since", None)) and since < begun_before:
                connection.transport.close()


def application() -> App:
    """Import `application` from this folder's asgi.py; SystemExit with a one-line reason if that fails."""
    folder = Path.cwd()
    sys.path.insert(0, str(folder))
    try:
        app: App = importlib.import_module("asgi").application
    except Exception as error:  # noqa: BLE001 - whatever the bento's own code raises
        frames = traceback.extract_tb(error.__traceback__)
        mine = [f" at {at.filename}:{at.lineno}" for at in frames if Path(at.filename).is_relative_to(folder)]
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise SystemExit(f"{folder / 'asgi.py'} gives no application: {reason}{''.join(mine[-1:])}") from None
    return app


def listen(host: str, port: int) -> socket.socket:
    """The port; SystemExit with a line that says why it can't be had."""
    try:
        return socket.create_server((host, port), backlog=2048)
    except (OSError, OverflowError) as error:
        raise SystemExit(f"cannot listen at --host {host} --port {port}: {error}") from None


def serve(app: App, listening: socket.socket) -> None:
    """Serve until SIGTERM."""
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=Connection,
        timeout_keep_alive=KEPT,
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=GRACE,
    )
    server = Server(config, app)
    server.run([listening])
    if not server.started:
        raise SystemExit(uvicorn.config.STARTUP_FAILURE)


def main() -> None:
    """Serve what is in this folder; a connection is a file, so as many of them as may be."""
    parser = argparse.ArgumentParser(prog="python -m loop.serving.packed.serve", description=__doc__)
    parser.add_argument("--host", default="0.0.0.0")  # noqa: S104 - a container's port is its own
    parser.add_argument("--port", type=int, default=3000)
    asked = parser.parse_args()
    try:
        settings.check()
    except settings.WrongSetting as wrong:
        raise SystemExit(str(wrong)) from None
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    serve(application(), listen(asked.host, asked.port))


if __name__ == "__main__":
    main()
