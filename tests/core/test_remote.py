"""A source's server is not trusted: where it may redirect a download, and how much it may send."""

import asyncio
import gzip
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import AsyncMock
from urllib.parse import quote, unquote

import pytest
from yarl import URL

from loop.core import remote
from loop.core.errors import LoopError

SECRET = b"what only this machine may read"


class Answers(BaseHTTPRequestHandler):
    """`/to/URL` redirects there, `/file` has the secret, `/long` and `/packed` send 4 MB."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer, and close the connection, which ends a body without a length."""
        self.close_connection = True
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", unquote(self.path.removeprefix("/to/")))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = SECRET if self.path == "/file" else b"0" * 4_000_000
        self.send_response(200)
        if self.path == "/packed":
            body = gzip.compress(body)
            self.send_header("Content-Encoding", "gzip")
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """The port of a server on this machine's loopback."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.fixture
def resolved(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The addresses to which names resolve; names that are not in it resolve to 127.0.0.1."""
    import aiohttp.resolver

    found: dict[str, str] = {}

    async def resolve(_: object, host: str, port: int = 0, family: int = 0) -> list[dict[str, object]]:
        place = {"hostname": host, "host": found.get(host, "127.0.0.1"), "port": port}
        return [{**place, "family": 2, "proto": 6, "flags": 0}]

    monkeypatch.setattr(aiohttp.resolver.ThreadedResolver, "resolve", resolve)
    return found


def test_the_host_that_is_named_may_be_in_house(port: int, tmp_path: Path) -> None:
    """An address that params.yaml names is reached, also if it redirects to another of its paths."""
    here = f"http://127.0.0.1:{port}"
    for url in (f"{here}/file", f"{here}/to//file", f"{here}/to/{here}/file"):
        remote.fetch(url, tmp_path / "file")
        assert (tmp_path / "file").read_bytes() == SECRET


@pytest.mark.parametrize(
    "to",
    [
        "http://127.0.0.2:{port}/file",
        "http://localhost:{port}/file",
        "http://[::1]:{port}/file",
        "http://[::ffff:127.0.0.1]:{port}/file",
        "http://[64:ff9b::7f00:1]:{port}/file",
        "http://169.254.169.254/latest/meta-data/",
        "http://10.0.0.1/file",
        "http://100.64.0.1/file",
        "http://0.0.0.0:{port}/file",
        "http://2130706433:{port}/file",
        "http://public.example:{port}/file",
        "file:///etc/hostname",
        "ftp://127.0.0.1/file",
    ],
)
def test_a_redirect_stays_public(port: int, tmp_path: Path, to: str, resolved: dict[str, str]) -> None:
    """No redirect leads to this machine or to a private network, whatever a name resolves to."""
    from loop.pipeline.source import source_sha256

    url = f"http://127.0.0.1:{port}/to/{quote(to.format(port=port), safe='')}"
    with pytest.raises(
        LoopError,
        match=rf"127\.0\.0\.1:{port}/to/.*(?:not a public address|RedirectClientError|not a canonical)",
    ):
        source_sha256([url], tmp_path)


def test_a_redirect_to_a_public_host_is_followed(port: int) -> None:
    """A public address is reached on any hop, so that a supplier's own redirects work."""
    guard = remote._Guard("https://supplier.example/rows.parquet")
    for guard.named in (True, False):
        assert guard._may_reach("93.184.216.34")
        assert guard._may_reach("2606:2800:220:1::1")
    guard.named = True
    assert guard._may_reach("10.1.2.3")


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "fe80::1%eth0", "0.0.0.0"])  # noqa: S104
def test_a_name_is_not_this_machine(address: str) -> None:
    """A host is not reached if its name resolves to loopback or a cloud's metadata, even on the first hop."""
    assert not remote._Guard("https://supplier.example/rows.parquet")._may_reach(address)


@pytest.mark.parametrize("path", ["long", "packed"])
def test_no_more_is_written_than_a_source_may_have(
    port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """Bytes are counted as they arrive, after decompression; the length that the server sends is not used."""
    monkeypatch.setattr(remote, "MOST", 1_000_000)
    with pytest.raises(LoopError, match=r"sends more than 1,000,000 bytes[\s\S]*fix:"):
        remote.fetch(f"http://127.0.0.1:{port}/{path}", tmp_path / "file")
    assert (tmp_path / "file").stat().st_size < 1_000_000 + 6 * 2**20  # fsspec writes 5 MiB at a time


def test_https_stays_https() -> None:
    """A redirect that drops the encryption is refused, even to the named host."""
    guard = remote._Guard("https://supplier.example/rows.parquet")
    request = SimpleNamespace(url=URL("http://supplier.example/rows.parquet"))
    with pytest.raises(LoopError, match="which is not encrypted"):
        asyncio.run(guard._look(request, AsyncMock()))  # type: ignore[arg-type]


def test_a_silent_server_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A download from a server that sends nothing ends with a timeout."""
    monkeypatch.setattr(remote, "SILENCE", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(TimeoutError):
        remote.fetch(f"http://127.0.0.1:{silent.getsockname()[1]}/file", tmp_path / "file")
