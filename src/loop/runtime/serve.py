"""The server of a bento's image: `python -m loop.runtime.serve` in the bento's folder `src`.

BentoML builds, pins and packs the bento, and can serve it (`bentoml serve`); this serves the same application
without what BentoML puts around it. It is one process: the cluster runs as many as are needed, and starts one
again when it has ended.
"""

import argparse
import gc
import importlib
import math
import resource
import socket
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import msgspec
import uvicorn
from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from loop.runtime import settings
from loop.runtime.app import App

LINGER = 1.0  # seconds, at most, in which connections that are still used end by themselves
GRACE = 20  # seconds for the requests in flight after that
TICKS = 10  # of uvicorn, a tenth of a second each, between two looks at the connections
HEAD_SECONDS = 10.0  # from the begin of a connection, or of a request on it, to the end of the request's head
HEAD, FIELDS = 64 * 1024, 256  # bytes and headers that a request may have beside its body
SLICE = 16 * 1024  # bytes parsed at once: where in them a head begins is not known, so they are not counted
PIPELINED = 64  # requests that a connection may send before the first of them is answered
THROWN_AWAY = 1024 * 1024  # bytes still read from a refused connection: closed sooner, it would be reset
EVERY = "::"  # every address of this machine, of both families
KEPT = 3700  # seconds a connection may be idle: longer than Envoy's hour, so that it is the one to close it


class Why(NamedTuple):
    """Why something is refused before it is a whole request."""

    status: int
    error: str


TOO_LONG = Why(431, f"the head is over {HEAD} bytes or {FIELDS} fields")
TOO_MANY = Why(400, f"over {PIPELINED} requests came before the first of them was answered")
NO_HTTP = Why(400, "this is no HTTP/1.1 request")
NO_PROXY = Why(400, "CONNECT is for proxies")
TOO_SLOW = Why(408, "the head did not come to its end")


class Refused(Exception):
    """Ends the parsing of a connection; its argument is why."""


class Connection(HttpToolsProtocol):
    """uvicorn's, which also knows since when it has waited for a request's head, and takes no endless one.

    uvicorn keeps all of a head, of what follows a body, and of the requests that wait for their turn. It
    loses the body of a request with `Upgrade: h2c`. It counts none of its own answers, and resets the
    connection of a caller who is still sending, who may then never read the answer.
    """

    waits_since: float | None = None
    beside = 0  # bytes since the request began, or since the last of its body
    came = 0  # bytes that were parsed last
    asked: Any = None  # the request that is being answered; uvicorn knows the last one that came
    plain = b""  # the head of a request that asks for another protocol, without that
    refused: Why | None = None  # why nothing more of this connection is looked at

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
        self._unset_keepalive_if_required()
        if len(data) <= SLICE:
            self._piece(data)
            return
        for begin in range(0, len(data), SLICE):
            self._piece(data[begin : begin + SLICE])

    def _piece(self, data: bytes) -> None:
        self.came = len(data)
        if self.refused is None and self.beside > HEAD:
            self._refuse(TOO_LONG)
        if self.refused:
            self._throw_away()
        else:
            self.beside += self.came
            self._parse(data)
            if self.refused is None and len(self.headers or ()) > FIELDS:
                self._refuse(TOO_LONG)

    def _parse(self, data: bytes) -> None:
        """Read requests; what asks for another protocol is read again as if it had not."""
        try:
            self.parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            plain, self.plain = self.plain, b""
            self.parser = HttpRequestParser(self)  # the old one may be done with this connection
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's is
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
        self.waits_since = None
        super().on_headers_complete()

    def _head(self) -> bytes:
        """The head of the request that has come, without `Upgrade`."""
        version = self.parser.get_http_version().encode()
        begin = b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, version)
        fields = [b"%s: %s" % field for field in self.headers if field[0] != b"upgrade"]
        return b"\r\n".join([begin, *fields, b"", b""])

    def on_body(self, body: bytes) -> None:
        self.beside = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.plain:
            return
        self.cycle.more_body = False
        self.cycle.message_event.set()
        self.waits_since = None

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.refused:
            self._tell()
        elif self.cycle.more_body and self.cycle.response_complete:
            self.waits_since = time.monotonic()  # what it goes on sending is thrown away, but not for ever

    def _refuse(self, why: Why) -> None:
        """Look at nothing more of this connection, and tell why once what came before is answered."""
        self.refused, cut = why, self.cycle
        if cut is not None and cut.more_body:  # this one's body is what is wrong
            if cut is not self.asked:
                self.pipeline.popleft()
            else:
                cut.disconnected = True  # for the app, which waits for the body
                cut.message_event.set()
                if cut.response_started:
                    self.transport.close()
        self._tell()

    @property
    def _answers(self) -> bool:
        """Whether a request that came before is not answered yet."""
        return self.asked is not None and not (self.asked.response_complete or self.asked.disconnected)

    def _tell(self) -> None:
        """Answer why nothing more is read, and close the connection once the caller could read that."""
        if self.refused is None or self._answers or self.transport.is_closing():
            return
        said = msgspec.json.encode({"error": self.refused.error, "field": ""})
        self.app.predictor.metrics.answered(self.scope.get("path", "other"), self.refused.status)
        fields = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close" % len(said)
        self.transport.write(STATUS_LINE[self.refused.status] + fields + b"\r\n\r\n" + said)
        self.transport.write_eof()
        self.flow.resume_reading()
        self.waits_since, self.beside = time.monotonic(), 0

    def _throw_away(self) -> None:
        self.beside += self.came
        if self.beside > THROWN_AWAY:
            self.transport.close()

    def shutdown(self) -> None:
        super().shutdown()
        if self.refused and not self._answers:
            self.transport.close()

    def wait_no_longer(self) -> None:
        """It has taken too long: close it, and tell whoever is in the middle of a head."""
        if self.refused is None and self.scope and "path" not in self.scope:
            self._refuse(TOO_SLOW)
        else:
            self.transport.close()


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
            if isinstance(connection, Connection) and (connection.waits_since or math.inf) < begun_before:
                connection.wait_no_longer()


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
    """The port, of both families at EVERY; SystemExit with a line that says why it can't be had."""
    both = host == EVERY and socket.has_dualstack_ipv6()
    if host == EVERY and not both:
        host = "0.0.0.0"  # noqa: S104 - a container's port is its own
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048, dualstack_ipv6=both)
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
        workers=1,  # or WEB_CONCURRENCY would be read, which says nothing here
    )
    server = Server(config, app)
    server.run([listening])
    if not server.started:
        raise SystemExit(uvicorn.config.STARTUP_FAILURE)


def main() -> None:
    """Serve what is in this folder; a connection is a file, so as many of them as may be."""
    parser = argparse.ArgumentParser(prog="python -m loop.runtime.serve", description=__doc__)
    parser.add_argument("--host", default=EVERY)
    parser.add_argument("--port", type=int, default=3000)
    asked = parser.parse_args()
    try:
        settings.check()
    except settings.WrongSetting as wrong:
        raise SystemExit(str(wrong)) from None
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with suppress(ValueError):  # macOS says that there is no limit, and does not let one set that
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    serve(application(), listen(asked.host, asked.port))


if __name__ == "__main__":
    main()
