"""The demo's gateway, a real Envoy, admits the same requests as the cluster's gateway."""

import gzip
import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from served import application, serving
from tenacity import retry, stop_after_delay, wait_fixed
from tiny import write_model

from loop.delivery.policy import PUBLIC
from loop.packaging.process import free_port
from loop_demo.envoy import Envoy
from loop_demo.node import Desired

ROUTE = {
    "kind": "HTTPRoute",
    "spec": {
        "rules": [
            {
                "matches": [{"path": {"type": "Exact", "value": path}} for path in PUBLIC],
                "backendRefs": [{"name": "serving-stable", "weight": 100}],
            }
        ]
    },
}


class Everything(BaseHTTPRequestHandler):
    """A pod that answers 200 at any path, because a pod has more paths than the route."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        """Print nothing."""


def test_only_the_routes_paths_are_public(tmp_path):
    """Without a track every path gives 503; with one, the route's paths answer and all others give 404."""
    desired = Desired.of([ROUTE])
    ports = {name: free_port() for name in ("admin", "gateway", "stable")}
    with ThreadingHTTPServer(("127.0.0.1", 0), Everything) as pod, Envoy(tmp_path, ports) as envoy:
        threading.Thread(target=pod.serve_forever, daemon=True).start()

        def status(path):
            return httpx.get(f"{envoy.url('gateway')}{path}", trust_env=False).status_code

        @retry(wait=wait_fixed(0.05), stop=stop_after_delay(20), reraise=True)
        def settled(path, expected):
            assert status(path) == expected

        settled("/predict", 503)
        envoy.route({"stable": pod.server_port}, desired.weights, desired.paths)
        settled("/predict", 200)
        answers = {
            path: status(path)
            for path in ("/health", "/health/", "/openapi.json", "/metrics", "/livez", "/readyz")
        }
        assert answers == {
            "/health": 200,
            "/health/": 200,
            "/openapi.json": 200,
            "/metrics": 404,
            "/livez": 404,
            "/readyz": 404,
        }
        assert httpx.get(f"{envoy.url('stable')}/readyz", trust_env=False).status_code == 200  # as a Service
        pod.shutdown()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    """Start an Envoy in front of a server of the tiny model, and yield the gateway's port."""
    folder = tmp_path_factory.mktemp("gateway")
    source = write_model(folder / "model" / "src")
    application(source)
    ports = {name: free_port() for name in ("admin", "gateway", "stable")}
    with serving(source, free_port()) as server, Envoy(folder, ports) as envoy:
        envoy.route({"stable": server.port}, {"stable": 100}, PUBLIC)

        @retry(wait=wait_fixed(0.05), stop=stop_after_delay(20), reraise=True)
        def settled():
            assert httpx.get(f"{envoy.url('gateway')}/health", trust_env=False).is_success

        settled()
        yield ports["gateway"]


BODY = b'{"features":[1.0,0.0,-0.5]}'
OFFER = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAAQ"}
CALLS = {
    "plain": ("/predict", BODY, {}, 200),
    "a slash": ("/predict/", BODY, {}, 200),
    "an offer of HTTP/2": ("/predict", BODY, OFFER, 200),
    "gzip": ("/predict", gzip.compress(BODY), {"Content-Encoding": "gzip"}, 415),
    "a long head": ("/predict", BODY, {"A": "a" * 70_000}, 431),
    "a large body": ("/predict", b" " * 50_000_000, {}, 413),
}


@pytest.mark.parametrize(("path", "body", "headers", "status"), CALLS.values(), ids=CALLS)
def test_callers_are_answered_through_it(gateway, path, body, headers, status):
    """Callers get the server's own status, even if they read it only after they have sent the whole body."""
    connection = http.client.HTTPConnection("127.0.0.1", gateway, timeout=30)
    connection.request("POST", path, body, headers)
    with connection.getresponse() as answer:
        assert answer.status == status
    connection.close()
