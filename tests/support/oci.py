"""A real registry, `crane registry serve`, with a login like ghcr.io's, and archives like `docker save`'s."""

import base64
import gzip
import hashlib
import io
import json
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pyarrow as pa

from loop.core.paths import program
from loop.core.signing import signed
from loop.packaging import attestation
from loop.packaging.registry import Registry

CRANE = program("crane")
PACKED = {"": bytes, "gzip": gzip.compress, "zstd": lambda layer: pa.compress(layer, "zstd", asbytes=True)}


def crane(*args: str) -> str:
    """Run crane and return its output."""
    done = subprocess.run([CRANE, *args], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def attest(image: str, key: str) -> None:
    """Attest that `name@digest` in a registry is our release with this key, like `loop attest` off GitHub."""
    name, _, digest = image.partition("@")
    predicate = {"buildDefinition": {"internalParameters": {"releaseKey": key}}}
    said = attestation.statement(name, digest, predicate)
    attestation.keep(Registry(name, CRANE), digest, signed(json.dumps(said).encode()))


def archive(
    to: Path, *layers: bytes, packed: str = "", history: bool = True, images: int = 1, machine: str = "amd64"
) -> Path:
    """Write an image with these layers as `docker save` does, each compressed as `packed` says."""
    config = {
        "architecture": machine,
        "os": "linux",
        "rootfs": {
            "type": "layers",
            "diff_ids": [f"sha256:{hashlib.sha256(one).hexdigest()}" for one in layers],
        },
    }
    if history:
        steps = [{"created_by": "/bin/sh -c make"} for _ in layers]
        config["history"] = [*steps, {"created_by": "#", "empty_layer": True}]
    names = [f"{number}.tar" for number in range(len(layers))]
    described = [{"Config": "config.json", "RepoTags": None, "Layers": names}] * images
    files = {"manifest.json": json.dumps(described).encode(), "config.json": json.dumps(config).encode()}
    files |= {name: PACKED[packed](layer) for name, layer in zip(names, layers, strict=True)}
    with tarfile.open(to, "w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return to


@contextmanager
def serving(login: str = "") -> Iterator[str]:
    """Start an empty registry and yield its `host:port`. It asks for `login`, a `name:password`, if given."""
    command = [CRANE, "registry", "serve", "--address", "127.0.0.1:0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            host = f"127.0.0.1:{server.stderr.readline().rpartition(' ')[2].strip()}"
            # It prints a line for each request, and would hang once the pipe is full and nobody reads it.
            threading.Thread(target=server.stderr.read, daemon=True).start()
            if login:
                with _asking(host, login) as host:
                    yield host
            else:
                yield host
        finally:
            server.kill()


@contextmanager
def _asking(behind: str, login: str) -> Iterator[str]:
    """Proxy a registry, and pass on only requests with a token, which the login obtains."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            sent = self.headers.get("Authorization", "")
            if self.path.startswith("/token"):
                known = sent == "Basic " + base64.b64encode(login.encode()).decode()
                self._answer(200 if known else 401, json.dumps({"token": "t"} if known else {}).encode(), {})
            elif sent != "Bearer t":
                realm = f'Bearer realm="http://{self.headers["Host"]}/token",service="s"'
                refused = {"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]}
                self._answer(401, json.dumps(refused).encode(), {"WWW-Authenticate": realm})
            else:
                headers = {
                    name: self.headers[name] for name in ("Content-Type", "Accept") if name in self.headers
                }
                answer = http.request(self.command, self.path, content=body, headers=headers)
                self._answer(answer.status_code, answer.content, dict(answer.headers))

        do_HEAD = do_POST = do_PUT = do_PATCH = do_GET  # noqa: N815 — http.server looks them up by name

        def _answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            kept = {key.title(): value for key, value in headers.items()}
            kept.setdefault("Content-Length", str(len(content)))
            for name, value in kept.items():
                if name not in ("Date", "Server", "Transfer-Encoding"):
                    self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def log_message(self, *_: object) -> None: ...

    with (
        httpx.Client(base_url=f"http://{behind}", trust_env=False) as http,
        ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            # A name, because crane does not contact a token server at a private address.
            yield f"localhost:{server.server_address[1]}"
        finally:
            server.shutdown()
