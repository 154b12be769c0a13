"""An S3 server for one test, by moto."""

from collections.abc import Iterator

import fsspec
import httpx
import pytest
from moto.moto_server.threaded_moto_server import ThreadedMotoServer


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[fsspec.AbstractFileSystem]:
    """Start a server with a bucket `team`, and set AWS's variables so that commands find it like any S3."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "team")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    files = fsspec.filesystem("s3", skip_instance_cache=True)
    files.mkdir("team")
    yield files
    type(files).clear_instance_cache()  # otherwise fsspec reuses clients of this server for the next one
    # moto keeps its objects in the process, not in the server.
    httpx.post(f"http://{host}:{port}/moto-api/reset")
    server.stop()
