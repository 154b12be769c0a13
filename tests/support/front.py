"""A reverse proxy that a test puts in front of a server, to answer some requests itself."""

import http.client
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import urlsplit


class Front(ThreadingHTTPServer):
    """Runs inside a `with` block. A subclass decides which requests it answers itself."""

    daemon_threads = True
    seconds = 0.0  # delay of each answer

    def __init__(self, behind: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behind = urlsplit(behind).netloc

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return super().__enter__()

    def __exit__(self, *exception: object) -> None:
        self.shutdown()
        super().__exit__(*exception)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def own(self, request: BaseHTTPRequestHandler) -> tuple[int, str] | None:
        """Return the status and body of an answer, or None to pass the request on."""

    def path(self, asked: str) -> str:
        """Return the path to which a request is passed on."""
        return asked


class _Handler(BaseHTTPRequestHandler):
    """Passes a request on with its headers unchanged, because an S3 signature covers them."""

    server: Front
    protocol_version = "HTTP/1.1"

    def forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        time.sleep(self.server.seconds)
        if own := self.server.own(self):
            self.say(own[0], [], own[1].encode())
            return
        behind = http.client.HTTPConnection(self.server.behind, timeout=60)
        behind.putrequest(
            self.command, self.server.path(self.path), skip_host=True, skip_accept_encoding=True
        )
        for name, value in self.headers.items():
            if name.lower() != "expect":
                behind.putheader(name, value)
        behind.endheaders(body)
        answer = behind.getresponse()
        left = {"transfer-encoding", "content-length", "connection"}
        fields = [(name, value) for name, value in answer.getheaders() if name.lower() not in left]
        length = answer.getheader("Content-Length") if self.command == "HEAD" else None
        self.say(answer.status, fields, answer.read(), length)

    do_GET = do_PUT = do_POST = do_PATCH = do_HEAD = do_DELETE = forward  # noqa: N815

    def say(self, status: int, fields: list[tuple[str, str]], body: bytes, length: str | None = None) -> None:
        self.send_response_only(status)
        for name, value in fields:
            self.send_header(name, value)
        self.send_header("Content-Length", length or str(len(body)))
        self.end_headers()
        self.wfile.write(body if self.command != "HEAD" else b"")

    def log_message(self, *args: object) -> None: ...
