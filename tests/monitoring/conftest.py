"""Fixtures for the tests of loop.monitoring: a clone with a trained model, a GitHub with runs, and tracks."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
from shop import FEATURES, PARAMS, REST, SCHEMA, FakeGitHub, FakeTrack, Production, commit, rows


@pytest.fixture
def production(origin: Path) -> Production:
    """Return a clone of a pushed main that has one trained model and serves no release yet."""
    root = origin.parent / "clone"
    folder = root / "src" / "models" / "shop"
    folder.mkdir(parents=True)
    (folder / "schema.py").write_text(SCHEMA)
    for module, text in REST.items():
        (folder / f"{module}.py").write_text(text)
    (root / "params.yaml").write_text(PARAMS)
    (root / "dvc.yaml").write_text("stages: {}\n")
    commit(root, "Train")
    reference = root / "data" / "shop" / "reference.parquet"
    (reference.parent / "model").mkdir(parents=True)
    rows(2_000, seed=9)[[*FEATURES, "score", "fraud"]].to_parquet(reference)
    (reference.parent / "model" / "meta.json").write_text(json.dumps({"features": FEATURES}))
    return Production(root)


@pytest.fixture
def github(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGitHub]:
    """Start a GitHub that knows the calls about runs: dispatch, list, read, cancel."""
    fake = FakeGitHub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer()

        def do_POST(self) -> None:
            self.answer()

        def answer(self) -> None:
            url = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            query, sent = dict(parse_qsl(url.query)), json.loads(body or "{}")
            status, headers, said = fake.answer(self.command, url.path, query, sent)
            text = said if isinstance(said, bytes) else b"" if said is None else json.dumps(said).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(text))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    fake.url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("LOOP_GITHUB_API_URL", fake.url)
    monkeypatch.setenv("GITHUB_REPOSITORY", "team/shop")
    monkeypatch.setenv("GITHUB_TOKEN", "bot")
    yield fake
    server.shutdown()
    server.server_close()


@pytest.fixture
def served() -> Iterator[Callable[[], FakeTrack]]:
    """Yield a function that starts a track, or a pod, and returns it."""
    with ExitStack() as stack:

        def one() -> FakeTrack:
            fake = FakeTrack()
            server = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), _handler(fake)))
            stack.callback(server.shutdown)
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
            fake.url = f"http://127.0.0.1:{server.server_port}"
            return fake

        yield one


@pytest.fixture
def tracks(served: Callable[[], FakeTrack]) -> dict[str, FakeTrack]:
    """Start two tracks, whose answers a test sets."""
    return {name: served() for name in ("stable", "canary")}


def _handler(fake: FakeTrack) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, text = fake.answer(self.path)
            self.send_response(status)
            self.end_headers()
            if fake.drip:
                with suppress(OSError):
                    while not time.sleep(fake.drip):
                        self.wfile.write(b"x")
                return
            self.wfile.write(text.encode())

        def log_message(self, *args: object) -> None: ...

    return Handler
