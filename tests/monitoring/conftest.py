"""A clone of a pushed main that has one trained model; a GitHub that two calls can be made to."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from shop import FEATURES, PARAMS, REST, SCHEMA, FakeGitHub, FakeTrack, Production, commit, rows


@pytest.fixture
def production(origin: Path) -> Production:
    """A clone of a pushed main that has one trained model and nothing served yet."""
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
    """A GitHub that knows two calls: dispatch a workflow, list its runs."""
    fake = FakeGitHub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(200, {"workflow_runs": fake.runs.get(self.path.split("/")[6], [])})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            fake.dispatch(self.path.split("/")[6], body["inputs"])
            self.answer(204, None)

        def answer(self, status: int, body: object) -> None:
            text = b"" if body is None else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    fake.url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("LOOP_GITHUB_API_URL", fake.url)
    monkeypatch.setenv("GITHUB_REPOSITORY", "team/shop")
    monkeypatch.setenv("GITHUB_TOKEN", "bot")
    yield fake
    server.shutdown()
    server.server_close()


@pytest.fixture
def served() -> Iterator[Callable[[], FakeTrack]]:
    """Serves as many tracks, or pods, as a test asks for."""
    with ExitStack() as stack:

        def one() -> FakeTrack:
            fake = FakeTrack()
            server = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), _handler(fake)))
            stack.callback(server.shutdown)
            threading.Thread(target=server.serve_forever, daemon=True).start()
            fake.url = f"http://127.0.0.1:{server.server_port}"
            return fake

        yield one


@pytest.fixture
def tracks(served: Callable[[], FakeTrack]) -> dict[str, FakeTrack]:
    """Two served tracks, which a test tells what to answer."""
    return {name: served() for name in ("stable", "canary")}


def _handler(fake: FakeTrack) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, text = fake.answer(self.path)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *args: object) -> None: ...

    return Handler
