"""The demo's gateway, a real Envoy, lets through what the cluster's does."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
from tenacity import retry, stop_after_delay, wait_fixed

from loop.delivery.policy import PUBLIC
from loop.demo.envoy import Envoy
from loop.demo.node import Desired
from loop.serving.process import free_port

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
    """Answers 200 at any path, as a pod has more paths than the route."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        """Print nothing."""


def test_only_the_routes_paths_are_public(tmp_path):
    """Before there is a track all is 503; then the route's paths answer, and any other is 404."""
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
            path: status(path) for path in ("/health", "/openapi.json", "/metrics", "/livez", "/readyz")
        }
        assert answers == {
            "/health": 200,
            "/openapi.json": 200,
            "/metrics": 404,
            "/livez": 404,
            "/readyz": 404,
        }
        assert httpx.get(f"{envoy.url('stable')}/readyz", trust_env=False).status_code == 200  # as a Service
        pod.shutdown()
