"""The monitor pushes its metrics to a Pushgateway, with the time when the token expires."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner
from prometheus_client.parser import text_string_to_metric_families
from shop import Production, rows

from loop.cli.monitoring import monitor
from loop.core.errors import LoopError
from loop.core.github import GitHub
from loop.monitoring.fetch import fetch
from loop.monitoring.push import HEADER, push, token_ends

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


class Server:
    """Keeps what is pushed, like a Pushgateway, and says when a token expires, like GitHub."""

    def __init__(self) -> None:
        self.url, self.ends, self.refuses, self.drops = "", "", False, 0
        self.groups: dict[str, str] = {}


@pytest.fixture
def server() -> Iterator[Server]:
    it = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            it.groups[self.path] = self.rfile.read(int(self.headers["Content-Length"])).decode()
            it.drops -= 1
            if it.drops < 0:
                self.answer(400 if it.refuses else 200)

        def do_CONNECT(self) -> None:
            it.groups[self.path] = ""
            self.answer(502)

        def do_GET(self) -> None:
            self.answer(200)

        def answer(self, status: int) -> None:
            self.send_response(status)
            if it.ends:
                self.send_header(HEADER, it.ends)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None: ...

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    it.url = f"http://127.0.0.1:{http.server_port}"
    yield it
    http.shutdown()
    http.server_close()


@pytest.fixture
def metrics(tmp_path: Path) -> Path:
    path = tmp_path / "metrics.prom"
    path.write_text('# TYPE model_accuracy_score gauge\nmodel_accuracy_score{model="card-fraud"} 0.95\n')
    return path


def test_a_models_group_holds_its_numbers(server, metrics):
    """Both spellings of a model push to the same group, in Prometheus' format."""
    push(f"{server.url}/", "card_fraud", metrics)
    push(server.url, "card-fraud", metrics)
    assert server.groups == {"/metrics/job/monitor/model/card-fraud": metrics.read_text()}


def test_a_gateway_that_refuses_or_is_away_is_an_error(server, metrics, monkeypatch):
    """A Pushgateway that refuses or stays away is an error with its address and its answer."""
    server.refuses = True
    with pytest.raises(LoopError, match=r"job/monitor/model/shop: 400"):
        push(server.url, "shop", metrics)
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    with pytest.raises(LoopError, match="ConnectError"):
        push("http://127.0.0.1:9", "shop", metrics)
    assert 5 < sum(slept) < 10
    with pytest.raises(LoopError, match="Invalid port"):
        push("http://127.0.0.1:port", "shop", metrics)


def test_a_gateway_that_drops_its_connections_is_asked_again(server, metrics, monkeypatch):
    """A Pushgateway that is stopped closes connections without an answer; the next one gets the metrics."""
    monkeypatch.setattr("time.sleep", lambda _: None)
    server.drops = 2
    push(server.url, "shop", metrics)
    assert server.drops == -1


def test_a_gateway_beyond_the_proxy_is_reached_through_it(server, metrics, monkeypatch):
    """A Pushgateway with an https:// URL is called through HTTPS_PROXY, and the proxy's answer is shown."""
    monkeypatch.setattr("time.sleep", lambda _: None)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", server.url)
    with pytest.raises(LoopError, match="ProxyError"):
        push("https://gateway.example.test", "shop", metrics)
    assert server.groups == {"gateway.example.test:443": ""}


def test_a_way_out_to_the_internet_is_not_taken_within_the_cluster(server, metrics, monkeypatch):
    """HTTP_PROXY is used for GitHub only; the Pushgateway and pods are called directly."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    push(server.url, "shop", metrics)
    assert fetch(f"{server.url}/readyz", 3).is_success
    assert token_ends(GitHub(server.url, "team/shop", "secret")) is None


@pytest.mark.parametrize(
    ("said", "ends"),
    [("2026-05-01 12:00:00 UTC", NOON), ("2026-05-01 14:00:00 +0200", NOON), ("", None)],
)
def test_when_a_token_ends_is_what_github_says(server, said, ends):
    """The token's expiry is read from GitHub's header in both of its formats; a token may have no expiry."""
    server.ends = said
    assert token_ends(GitHub(server.url, "team/shop", "secret")) == ends


def test_the_monitor_pushes(server: Server, production: Production, monkeypatch: pytest.MonkeyPatch) -> None:
    """`loop monitor --push` pushes the metrics that it has written, and fails if it cannot.

    With `--dispatch`, they include the token's expiry, which GitHub says.
    """
    production.answer(rows(400))
    monkeypatch.chdir(production.root)
    monkeypatch.setenv("LOOP_GITHUB_API_URL", server.url)
    monkeypatch.setenv("GITHUB_REPOSITORY", "team/shop")
    monkeypatch.setenv("GITHUB_TOKEN", "bot")
    args = ["shop", f"--log={production.log}", f"--store={production.store}", f"--push={server.url}"]
    CliRunner().invoke(monitor, args, catch_exceptions=False)
    written = (production.root / "build" / "shop" / "monitor" / "metrics.prom").read_text()
    assert server.groups == {"/metrics/job/monitor/model/shop": written}
    server.ends = "2026-05-01 12:00:00 UTC"
    CliRunner().invoke(monitor, [*args, "--dispatch"], catch_exceptions=False)
    families = text_string_to_metric_families(server.groups["/metrics/job/monitor/model/shop"])
    ends = next(each for each in families if each.name == "github_token_expires_seconds")
    assert [(each.labels, each.value) for each in ends.samples] == [({"model": "shop"}, NOON.timestamp())]
    server.refuses = True
    with pytest.raises(LoopError, match="400"):
        CliRunner().invoke(monitor, args, catch_exceptions=False)
