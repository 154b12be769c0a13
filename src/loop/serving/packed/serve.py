"""The server of a bento's image: `python -m loop.serving.packed.serve` in the bento's folder `src`.

BentoML builds, pins and packs the bento, and can serve it (`bentoml serve`); this serves the same application
without what BentoML puts around it. SERVING_WORKERS processes, 1 unless set, share one port.
"""

import argparse
import gc
import importlib
import multiprocessing
import os
import resource
import signal
import socket
import sys
import tempfile
import time
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from loop.serving.packed.app import App

LINGER = 1.0  # seconds, at most, in which connections that are still used end by themselves
GRACE = 20  # seconds for the requests in flight after that
TICKS = 10  # of uvicorn, a tenth of a second each, between two looks at the connections
HEAD_SECONDS = 10.0  # from the begin of a connection, or of a request on it, to the end of the request's head
KEPT = 3700  # seconds a connection may be idle: longer than Envoy's hour, so that it is the one to close it


class Connection(HttpToolsProtocol):
    """uvicorn's, which also knows since when it has waited for a request's head."""

    waits_since: float | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.waits_since = time.monotonic()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.waits_since = time.monotonic()

    def on_headers_complete(self) -> None:
        self.waits_since = None
        super().on_headers_complete()


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


def serve(listening: socket.socket) -> None:
    """Serve `application` of the folder's asgi.py until SIGTERM."""
    sys.path.insert(0, os.getcwd())  # noqa: PTH109
    app = importlib.import_module("asgi").application
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


def supervise(listening: socket.socket, workers: int) -> None:
    """Keep so many workers running until SIGTERM; one that can't start ends them all."""
    spawned = multiprocessing.get_context("spawn")
    ending: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda sig, _: ending.append(sig))
    running: list[SpawnProcess] = []
    failed = False
    while not ending and not failed:
        while len(running) < workers:
            worker = spawned.Process(target=serve, args=(listening,))
            worker.start()
            running.append(worker)
        wait([worker.sentinel for worker in running], timeout=0.2)
        failed = any(worker.exitcode == uvicorn.config.STARTUP_FAILURE for worker in running)
        running = [worker for worker in running if worker.is_alive()]
    for worker in running:
        worker.terminate()
    for worker in running:
        worker.join()
    if failed:
        raise SystemExit(uvicorn.config.STARTUP_FAILURE)


def main() -> None:
    """Listen, and serve by one process or several; a connection is a file, so as many of them as may be."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    parser = argparse.ArgumentParser(prog="python -m loop.serving.packed.serve", description=__doc__)
    parser.add_argument("--host", default="0.0.0.0")  # noqa: S104 - a container's port is its own
    parser.add_argument("--port", type=int, default=3000)
    parser.add_argument("--workers", type=int, default=int(os.environ.get("SERVING_WORKERS", "1")))
    asked = parser.parse_args()
    listening = socket.create_server((asked.host, asked.port), backlog=2048)
    if asked.workers == 1:
        serve(listening)
        return
    with tempfile.TemporaryDirectory(prefix="serving-metrics-") as shared:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = shared
        supervise(listening, asked.workers)


if __name__ == "__main__":
    main()
