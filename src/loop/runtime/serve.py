"""The server of an image: `python -m loop.runtime.serve` in the image's folder `src`.

It serves the application with uvicorn, in one process. BentoML builds the image and could serve it too
(`bentoml serve`), but adds its own layers around each request. The cluster runs as many processes as needed
and restarts those that end.
"""

import argparse
import gc
import importlib
import math
import os
import resource
import socket
import sys
import time
import traceback
from contextlib import suppress
from contextvars import copy_context
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec
import uvicorn
from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from loop.runtime import settings
from loop.runtime.app import App, endpoint

LINGER = 1.0  # seconds after SIGTERM in which clients can end their connections themselves
GRACE = 20  # seconds after LINGER for running requests to finish
TICKS = 10  # uvicorn ticks (0.1 s each) between two checks for slow connections
# time limit in seconds for a request's head, from the start of the connection or request, and then for the
# first byte of its body
HEAD_SECONDS = 10.0
HEAD, FIELDS = 64 * 1024, 256  # maximum bytes and number of headers in a request's head
# Bytes parsed in one call. The parser does not report where in them a head starts, so the bytes of that call
# are not counted as part of the head.
SLICE = 16 * 1024
PIPELINED = 64  # maximum requests that a connection may send before the first is answered
# bytes that are still read from a refused connection, because closing it earlier would reset it
THROWN_AWAY = 1024 * 1024
EVERY = "::"  # `::` listens on all IPv4 and IPv6 addresses of this machine
# seconds after which idle connections are closed; longer than Envoy's hour, so that Envoy closes them first
KEPT = 3700

Why = tuple[int, str]  # status and error text for a refused connection
TOO_LONG = (431, f"the head is over {HEAD} bytes or {FIELDS} fields")
TOO_MANY = (400, f"over {PIPELINED} requests were sent before the first was answered")
NO_HTTP = (400, "this is not an HTTP/1.1 request")
NO_PROXY = (400, "CONNECT is for proxies, and this server is not one")
TOO_SLOW = (408, f"the head was not received within {HEAD_SECONDS:g} s")
NO_BODY = (408, f"the body did not begin within {HEAD_SECONDS:g} s")


class Refused(Exception):
    """Ends the parsing of a connection; its argument is a Why."""


class Connection(HttpToolsProtocol):
    """A connection of uvicorn that limits the time and size of request heads.

    On its own, uvicorn buffers heads, data after a body and pipelined requests without limit. It loses the
    body of a request with `Upgrade: h2c`. It does not count the error responses that it sends itself, and it
    resets the connection of a client that is still sending, which may then never read the response.
    """

    # since when the client owes the rest of a head, the first byte of a body, or the rest of a discarded body
    waits_since = math.inf
    active = 0.0  # when the client last sent data, or an answer to it was last complete
    beside = 0  # bytes since the start of the request, or since the last part of its body
    asked: Any = None  # the request that is being answered; uvicorn only keeps the one received last
    plain = b""  # the head of a request with an Upgrade header, without that header
    refused: Why | None = None  # the reason if this connection was refused and no further data is parsed

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.waits_since = self.active = time.monotonic()
        self.context = copy_context()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        # The client is gone, so requests that wait are dropped, and the one being answered is ended.
        self.pipeline.clear()
        if self.asked is not None:
            self.asked.disconnected = True
            self.asked.message_event.set()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self.asked = cycle
        if cycle.more_body and not cycle.body:
            self.waits_since = time.monotonic()
        super()._start_asgi_task(cycle, app)

    def data_received(self, data: bytes) -> None:
        self.active = time.monotonic()
        for begin in range(0, len(data), SLICE):
            piece = data[begin : begin + SLICE]
            if self.refused is None and self.beside > HEAD:
                self._refuse(TOO_LONG)
            self.beside += len(piece)
            if self.refused is None:
                self._parse(piece)
                if self.refused is None and len(self.headers or ()) > FIELDS:
                    self._refuse(TOO_LONG)
            elif self.beside > THROWN_AWAY:
                self.transport.close()

    def _parse(self, data: bytes) -> None:
        """Parse requests; one with an Upgrade header is parsed again without it, as an ordinary request."""
        try:
            self.parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            plain, self.plain = self.plain, b""
            # a new parser, because the old one may refuse further data after an upgrade
            self.parser = HttpRequestParser(self)
            # uvicorn's own parser has the same setting
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            self._parse(plain + data[upgrade.args[0] :])
        except HttpParserError as error:
            ours = error.__context__
            self._refuse(ours.args[0] if isinstance(ours, Refused) else NO_HTTP)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.waits_since, self.beside = time.monotonic(), 0
        if len(self.pipeline) >= PIPELINED:
            raise Refused(TOO_MANY)

    def on_headers_complete(self) -> None:
        if len(self.headers) > FIELDS or (self.beside + SLICE > HEAD and len(self._head()) > HEAD):
            raise Refused(TOO_LONG)
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise Refused(NO_PROXY)
            self.plain = self._head()
            return
        self.waits_since = math.inf
        super().on_headers_complete()

    def _head(self) -> bytes:
        """Return the head of the current request without its Upgrade header."""
        version = self.parser.get_http_version().encode()
        begin = b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, version)
        fields = [b"%s: %s" % field for field in self.headers if field[0] != b"upgrade"]
        return b"\r\n".join([begin, *fields, b"", b""])

    def on_body(self, body: bytes) -> None:
        self.beside = 0
        if not self.cycle.response_complete:
            self.waits_since = math.inf
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.plain:
            return
        self.cycle.more_body = False
        self.cycle.message_event.set()
        self.waits_since = math.inf

    def on_response_complete(self) -> None:
        # like uvicorn's, but without a timer for each response: `Server.on_tick` closes idle connections
        self.server_state.total_requests += 1
        self.active = time.monotonic()
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            # in the connection's context, because that of the request before has its caller and trace
            self.context.run(self._start_asgi_task, *self.pipeline.pop())
        if self.refused:
            self._tell()
        elif self.cycle.more_body and self.cycle.response_complete:
            # The rest of the request's body is read and discarded, but only for a limited time.
            self.waits_since = time.monotonic()

    def _refuse(self, why: Why) -> None:
        """Parse no further data of this connection, and send `why` once earlier requests are answered."""
        self.refused, cut, self.waits_since = why, self.cycle, math.inf
        if cut is not None and cut.more_body:  # the refused data belongs to the body of this request
            if cut is not self.asked:
                self.pipeline.popleft()
            else:
                # tells the application, which waits for the body, that there is no more
                cut.disconnected = True
                cut.message_event.set()
                if cut.response_started:
                    self.transport.close()
        self._tell()

    @property
    def _answers(self) -> bool:
        """Whether an earlier request is not answered yet."""
        return self.asked is not None and not (self.asked.response_complete or self.asked.disconnected)

    def _tell(self) -> None:
        """Send the reason for refusing, and close the connection after the client had time to read it."""
        if self.refused is None or self._answers or self.transport.is_closing():
            return
        status, error = self.refused
        said = msgspec.json.encode({"error": error, "field": ""})
        self.app.predictor.metrics.answered(endpoint(self.scope.get("path", "other")), status)
        fields = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close" % len(said)
        self.transport.write(STATUS_LINE[status] + fields + b"\r\n\r\n" + said)
        self.transport.write_eof()
        self.flow.resume_reading()
        self.waits_since, self.beside = time.monotonic(), 0

    def shutdown(self) -> None:
        super().shutdown()
        if self.refused and not self._answers:
            self.transport.close()

    def wait_no_longer(self) -> None:
        """Close an idle or too slow connection; an incomplete request is first answered with a 408."""
        if self.transport.is_closing():  # the client does not read its last answer
            self.transport.abort()
        elif self.refused is None and self.scope and "path" not in self.scope:
            self._refuse(TOO_SLOW)
        elif self.refused is None and self._answers and self.waits_since < math.inf:
            self._refuse(NO_BODY)
        else:
            self.transport.close()


class Server(uvicorn.Server):
    """A uvicorn server that after SIGTERM reports not ready, keeps answering for a moment, and then stops."""

    def __init__(self, config: uvicorn.Config, app: App) -> None:
        super().__init__(config)
        self._app, self._since = app, 0.0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        gc.collect()
        # excludes objects loaded so far from garbage collection, which took up to 70 ms each time
        gc.freeze()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._since:  # a second signal stops the server at once
            self.should_exit = True
        self._since = self._since or time.monotonic()
        self._app.draining = True

    async def on_tick(self, counter: int) -> bool:
        idle = not self.server_state.connections or time.monotonic() - self._since > LINGER
        self.should_exit |= bool(self._since) and idle
        if not counter % TICKS:
            now = time.monotonic()
            for connection in list(self.server_state.connections):
                assert isinstance(connection, Connection)  # noqa: S101 - what `main` configures
                # connections without a complete request are closed before they exhaust the server
                if connection.waits_since < now - HEAD_SECONDS or connection.active < now - KEPT:
                    connection.wait_no_longer()
        return await super().on_tick(counter)


def application() -> App:
    """Import `application` from asgi.py in the working directory, or raise SystemExit with the reason."""
    folder = Path.cwd()
    sys.path.insert(0, str(folder))
    try:
        app: App = importlib.import_module("asgi").application
    except Exception as error:  # noqa: BLE001 - asgi.py may raise any error
        frames = traceback.extract_tb(error.__traceback__)
        mine = [f" at {at.filename}:{at.lineno}" for at in frames if Path(at.filename).is_relative_to(folder)]
        reason = " ".join(f"{type(error).__name__}: {error}".split()) + "".join(mine[-1:])
        raise SystemExit(f"{folder / 'asgi.py'} does not provide `application`: {reason}") from None
    return app


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on the port, with EVERY for IPv4 and IPv6, or raise SystemExit."""
    both = host == EVERY and socket.has_dualstack_ipv6()
    if host == EVERY and not both:
        host = "0.0.0.0"  # noqa: S104 - the network of a container is isolated
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048, dualstack_ipv6=both)
    except (OSError, OverflowError) as error:
        raise SystemExit(f"cannot listen at --host {host} --port {port}: {error}") from None


def main() -> None:
    """Serve asgi.py of the working directory until SIGTERM, with as many connections as the system allows."""
    parser = argparse.ArgumentParser(prog="python -m loop.runtime.serve", description=__doc__)
    parser.add_argument("--host", default=EVERY)
    parser.add_argument("--port", type=int, default=3000)
    asked = parser.parse_args()
    try:
        settings.read()
    except msgspec.ValidationError as error:
        name = str(error).rpartition("$.")[2].rstrip("`")
        raise SystemExit(f"{name} is {os.environ[name]!r}: {error}") from None
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]  # each connection needs a file descriptor
    with suppress(ValueError):  # macOS says that there is no limit, and does not let one set that
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    app, listening = application(), listen(asked.host, asked.port)
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=Connection,
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=GRACE,
        workers=1,  # uvicorn would read the number of workers from WEB_CONCURRENCY if it were not set here
    )
    server = Server(config, app)
    server.run([listening])
    if not server.started:
        raise SystemExit(uvicorn.config.STARTUP_FAILURE)


if __name__ == "__main__":
    main()
