"""A container registry that holds what a test put in; one with a login asks for it as ghcr.io does."""

import base64
import gzip
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MANIFEST = "application/vnd.oci.image.manifest.v1+json"


class Held:
    """What the registry serves: manifests and blobs by digest, manifests by tag too."""

    def __init__(self, host: str, login: str = "") -> None:
        self.host, self.login = host, login
        self.content: dict[str, bytes] = {}

    def add(self, tag: str, *layers: bytes) -> str:
        """Put in an image of these layers (unpacked); returns its digest."""
        steps = [{"created_by": "/bin/sh -c make"} for _ in layers] + [
            {"created_by": "#", "empty_layer": True}
        ]
        manifest = {
            "mediaType": MANIFEST,
            "config": self._blob(json.dumps({"history": steps}).encode()),
            "layers": [self._blob(gzip.compress(layer)) for layer in layers],
        }
        described = self._blob(json.dumps(manifest).encode())
        self.content[tag] = self.content[described["digest"]]
        return str(described["digest"])

    def _blob(self, content: bytes) -> dict[str, object]:
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        self.content[digest] = content
        return {"digest": digest, "size": len(content)}


@contextmanager
def serving(login: str = "") -> Iterator[Held]:
    """A registry on a free port; `login` is the `name:password` without which it shows nothing."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            sent = self.headers.get("Authorization", "")
            if self.path.startswith("/token"):
                known = sent == "Basic " + base64.b64encode(login.encode()).decode()
                self._answer(200 if known else 403, json.dumps({"token": "t"} if known else {}).encode())
            elif login and sent != "Bearer t":
                realm = f'Bearer realm="http://{held.host}/token",service="s",scope="pull"'
                self._answer(401, b"", {"WWW-Authenticate": realm})
            elif content := held.content.get(self.path.rpartition("/")[2]):
                digest = "sha256:" + hashlib.sha256(content).hexdigest()
                self._answer(200, content, {"Docker-Content-Digest": digest, "Content-Type": MANIFEST})
            else:
                self._answer(404, b"")

        do_HEAD = do_GET  # noqa: N815 — http.server looks it up by this name

        def _answer(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {**(headers or {}), "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        held = Held(f"127.0.0.1:{server.server_address[1]}", login)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield held
        finally:
            server.shutdown()
