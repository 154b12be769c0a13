"""A bucket that is slow, busy, read-only or full, and a key that changes: commands end well or say why."""

import http.client
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from zlib import crc32

import pytest
from services import Services
from standin import ROOT
from trained import MODEL, change, run

from loop.serving.process import free_port

ERROR = "<Error><Code>{}</Code><Message>{}</Message></Error>"
# What AWS says of a busy bucket and of a key that may only read, and MinIO of a full disk.
BUSY = (503, ERROR.format("SlowDown", "Please reduce your request rate."))
READ_ONLY = (403, ERROR.format("AccessDenied", "Access Denied."))
FULL = (
    507,
    ERROR.format("XMinioStorageFull", "Storage backend has reached its minimum free drive threshold."),
)


class Front(ThreadingHTTPServer):
    """Stands before the S3 server, and answers some requests itself."""

    daemon_threads = True

    def __init__(self, behind: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.behind = urlsplit(behind).netloc
        self.seconds, self.busy = 0.0, 0
        self.refusal: tuple[int, str] | None = None
        self.asked = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def own(self, method: str) -> tuple[int, str] | None:
        """What it answers itself, if anything."""
        with self.lock:
            self.asked += 1
            if self.busy:
                self.busy -= 1
                return BUSY
        return self.refusal if method in {"PUT", "POST"} else None


class Handler(BaseHTTPRequestHandler):
    """Forwards a request as it came, so that its signature stays right."""

    server: Front
    protocol_version = "HTTP/1.1"

    def forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        time.sleep(self.server.seconds)
        if own := self.server.own(self.command):
            self.say(own[0], [], own[1].encode())
            return
        behind = http.client.HTTPConnection(self.server.behind, timeout=60)
        behind.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() != "expect":
                behind.putheader(name, value)
        behind.endheaders(body)
        answer = behind.getresponse()
        left = {"transfer-encoding", "content-length", "connection"}
        fields = [(name, value) for name, value in answer.getheaders() if name.lower() not in left]
        length = answer.getheader("Content-Length") if self.command == "HEAD" else None
        self.say(answer.status, fields, answer.read(), length)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = forward  # noqa: N815

    def say(self, status: int, fields: list[tuple[str, str]], body: bytes, length: str | None = None) -> None:
        self.send_response_only(status)
        for name, value in fields:
            self.send_header(name, value)
        self.send_header("Content-Length", length or str(len(body)))
        self.end_headers()
        self.wfile.write(body if self.command != "HEAD" else b"")

    def log_message(self, *args: object) -> None: ...


@pytest.fixture
def front(services: Services) -> Iterator[Front]:
    with Front(services.environment["AWS_ENDPOINT_URL"]) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def direct(clone: Path, services: Services, client: Any) -> Path:
    """The clone with a model of its own. Its artifacts go straight to S3, not through MLflow's server."""
    name = clone.parent.name
    client.create_experiment(name, f"s3://mlflow/{name}")
    change(clone, train__reg_lambda=1 + crc32(name.encode()) / 2**32)
    services.loop(clone, "repro", MODEL)
    return clone


@pytest.mark.parametrize("command", ["push", "register"])
def test_a_slow_or_busy_bucket_is_waited_for(
    direct: Path, services: Services, front: Front, command: str
) -> None:
    """A second for each answer, or 503 at first: the command ends well."""
    front.busy = 3
    front.seconds = 1
    services.loop(direct, command, MODEL, AWS_ENDPOINT_URL=front.url)
    assert front.asked > front.busy == 0


@pytest.mark.parametrize("refusal", [READ_ONLY, FULL], ids=["read-only", "full"])
@pytest.mark.parametrize("command", ["push", "register"])
def test_a_bucket_that_takes_nothing_is_named(
    direct: Path, services: Services, front: Front, command: str, refusal: tuple[int, str]
) -> None:
    """The error names the place and the server's reason. Once the bucket takes it, the command ends well."""
    front.refusal = refusal
    said = services.loop(direct, command, MODEL, code=2, AWS_ENDPOINT_URL=front.url)
    assert "Traceback" not in said
    assert f"s3://{'dvc' if command == 'push' else 'mlflow'}/{direct.parent.name}" in said
    assert any(
        reason in said for reason in ("AccessDenied", "Access Denied", "XMinioStorageFull", "minimum free")
    )
    assert "fix: " in said
    front.refusal = None
    services.loop(direct, command, MODEL, AWS_ENDPOINT_URL=front.url)


def test_the_key_changes(direct: Path, services: Services) -> None:
    """A command with the old key says so, and the next one, which has the new key, ends well."""
    services.loop(direct, "push", MODEL)
    with gateway(services, "new") as url:
        said = services.loop(direct, "register", MODEL, code=2, AWS_ENDPOINT_URL=url)
        assert "Traceback" not in said
        assert "InvalidAccessKeyId" in said or "access key" in said.lower()
        new = {"AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "new", "AWS_SECRET_ACCESS_KEY": "new" * 5}
        services.loop(direct, "register", MODEL, **new)
        services.loop(direct, "push", MODEL, **new)


@contextmanager
def gateway(services: Services, key: str) -> Iterator[str]:
    """A second S3 server on the same data, which takes another key."""
    programs = run(ROOT / "tools/programs", ROOT / "tools/services", cwd=ROOT).strip()
    folder, port = services.folder / "s3", free_port()
    command = (f"{programs}/versitygw", "--quiet", "--port", f"127.0.0.1:{port}", "posix")
    command += ("--sidecar", f"{folder}/metadata", f"{folder}/objects")
    env = {"ROOT_ACCESS_KEY": key, "ROOT_SECRET_KEY": key * 5}
    with subprocess.Popen(command, env=env) as process:
        for _ in range(100):
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            time.sleep(0.1)
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
