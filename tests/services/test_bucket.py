"""If a bucket is slow, busy, read-only or full, or its key changes, commands succeed or say why not."""

import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from front import Front
from services import Services
from standin import ROOT
from trained import MODEL, change, run

from loop.packaging.process import free_port

ERROR = "<Error><Code>{}</Code><Message>{}</Message></Error>"
# AWS' answers for a busy bucket and for a key that may only read, and MinIO's answer for a full disk.
BUSY = (503, ERROR.format("SlowDown", "Please reduce your request rate."))
READ_ONLY = (403, ERROR.format("AccessDenied", "Access Denied."))
FULL = (
    507,
    ERROR.format("XMinioStorageFull", "Storage backend has reached its minimum free drive threshold."),
)


class Bucket(Front):
    """A proxy of the S3 server that is busy at first, or refuses to write."""

    def __init__(self, behind: str) -> None:
        super().__init__(behind)
        self.busy = self.requests = 0
        self.refusal: tuple[int, str] | None = None
        self.lock = threading.Lock()

    def own(self, request: BaseHTTPRequestHandler) -> tuple[int, str] | None:
        with self.lock:
            self.requests += 1
            if self.busy:
                self.busy -= 1
                return BUSY
        return self.refusal if request.command in {"PUT", "POST"} else None


@pytest.fixture
def front(services: Services) -> Iterator[Bucket]:
    with Bucket(services.environment["AWS_ENDPOINT_URL"]) as server:
        yield server


@pytest.fixture
def direct(clone: Path, services: Services, client: Any) -> Path:
    """Return a clone with its own model, whose artifacts go directly to S3, not through MLflow's server."""
    name = clone.parent.name
    client.create_experiment(name, f"s3://mlflow/{name}")
    change(clone, train__subsample=0.9, train__seed=crc32(name.encode()) >> 1)
    services.loop(clone, "repro", MODEL)
    return clone


@pytest.mark.parametrize("command", ["push", "register"])
def test_commands_wait_for_a_slow_or_busy_bucket(
    direct: Path, services: Services, front: Bucket, command: str
) -> None:
    """A command succeeds although the bucket takes a second for each answer and answers 503 at first."""
    front.busy = 3
    front.seconds = 1
    services.loop(direct, command, MODEL, AWS_ENDPOINT_URL=front.url)
    assert front.requests > front.busy == 0


@pytest.mark.parametrize("refusal", [READ_ONLY, FULL], ids=["read-only", "full"])
@pytest.mark.parametrize("command", ["push", "register"])
def test_a_bucket_that_refuses_writes_is_named(
    direct: Path, services: Services, front: Bucket, command: str, refusal: tuple[int, str]
) -> None:
    """If a bucket refuses writes, the error names it and the server's reason; a later retry succeeds."""
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


def test_a_changed_key_is_reported(direct: Path, services: Services) -> None:
    """After the key has changed, a command with the old key says that it is wrong; the new key works."""
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
    """Start a second S3 server on the same data, with another key."""
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
