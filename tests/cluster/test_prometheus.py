"""Prometheus does not believe labels that pods set falsely; a real one is configured like the node's."""

import json
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import discovery
import httpx
import prometheus
import pytest
from ruamel.yaml import YAML

from loop.packaging.process import free_port

COUNT, HTTP = "model_prediction_latency_seconds_count", "bentoml_service_request_total"
POSE = 'namespace="shop-production",track="canary",pod="c",model="shop",job="monitor",instance="c"'
SERVED = 'service_version="b2",endpoint="/predict",http_response_code="500"'
LIES = f"""
{COUNT}{{version="b2",{POSE}}} 7
{HTTP}{{{SERVED},{POSE}}} 9
model_accuracy_score{{version="b2",{POSE}}} 1 {2_000_000_000_000}
"""
FLOOD = "\n".join(f'x{{n="{n}"}} 1' for n in range(3_000))
LONG = f'x{{n="{"n" * 300}"}} 1'
PUSHES = f"""
model_accuracy_score{{job="monitor",instance="",model="shop",version="a1"}} 0.5
push_time_seconds{{job="monitor",instance="",model="shop"}} 5
feature_drift_score{{job="monitor",instance="",model="shop",feature="x",namespace="shop-production"}} 0.1
{COUNT}{{version="b2",{POSE}}} 7
up{{job="shop-production/serving",namespace="shop-production",track="canary",pod="c",instance=""}} 1
model_accuracy_score{{job="other",instance="",model="shop",version="a1"}} 1
"""


@contextmanager
def serving(page: str) -> Iterator[str]:
    """Start a server that answers every request with a page of metrics, and yield its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, *args: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def pod(name: str, **labels: str) -> dict[str, Any]:
    """Return a serving pod of the model `other` in dev."""
    own = {"app.kubernetes.io/component": "serving", "app.kubernetes.io/name": "other", **labels}
    return {
        "metadata": {"name": name, "namespace": "other-dev", "labels": own},
        "spec": {"containers": [{"name": "bento", "ports": [{"name": "http", "containerPort": 3000}]}]},
        "status": {"podIP": "10.244.0.9", "phase": "Running"},
    }


def targets(pods: dict[str, tuple[dict[str, Any], str]]) -> list[dict[str, Any]]:
    """Return the targets for the committed PodMonitor and these pods, at the addresses of servers here."""
    monitor = YAML(typ="safe").load(prometheus.SERVING)
    monitor["metadata"]["namespace"] = "other-dev"
    found = discovery.targets([monitor], [each for each, _ in pods.values()])
    return [group | {"targets": [pods[group["labels"]["pod"]][1]]} for group in found]


@pytest.fixture(params=["honoured", "overridden"])
def asked(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[[str], list[dict[str, str]]]]:
    """Return a function that queries a Prometheus, which has scraped lying pods and a Pushgateway.

    One Prometheus applies honorLabels and the relabelings of its targets, the other does not.
    """
    with ExitStack() as stack:
        pages = {"liar": LIES, "flood": FLOOD, "long": LONG, "trackless": LIES}
        at = {name: stack.enter_context(serving(page)) for name, page in pages.items()}
        labels = {name: {"track": "stable"} for name in pages} | {"trackless": {}}
        pods = {name: (pod(name, **labels[name]), at[name]) for name in pages}
        (tmp_path / "targets").mkdir()
        (tmp_path / "targets" / "pods.json").write_text(json.dumps(targets(pods)))
        config = prometheus.config(tmp_path)
        jobs = {job["job_name"]: job for job in config["scrape_configs"]}
        jobs["pushgateway"]["static_configs"] = [{"targets": [stack.enter_context(serving(PUSHES))]}]
        if request.param == "overridden":
            jobs["pushgateway"]["honor_labels"] = False
            rules = jobs["pods"]["relabel_configs"]
            jobs["pods"]["relabel_configs"] = [each for each in rules if each.get("regex") != "endpoint"]
        config |= {"scrape_configs": [jobs["pods"], jobs["pushgateway"]], "alerting": {}}
        config["global"] = dict.fromkeys(("scrape_interval", "scrape_timeout"), "300ms")
        (tmp_path / "prometheus.yml").write_text(json.dumps(config))
        url = f"http://127.0.0.1:{free_port()}"
        args = [f"--storage.tsdb.path={tmp_path}/data", f"--config.file={tmp_path}/prometheus.yml"]
        listen = f"--web.listen-address={url.removeprefix('http://')}"
        log = stack.enter_context((tmp_path / "log").open("ab"))
        program = subprocess.Popen(["prometheus", *args, listen], stderr=log)
        stack.callback(program.wait)
        stack.callback(program.kill)

        def ask(query: str) -> list[dict[str, str]]:
            answer = httpx.post(f"{url}/api/v1/query", data={"query": query}, timeout=10).raise_for_status()
            return [
                series["metric"] | {"value": series["value"][1]} for series in answer.json()["data"]["result"]
            ]

        ends = time.monotonic() + 60
        while time.monotonic() < ends:
            with suppress(httpx.HTTPError):
                if len(ask("up")) == 4:  # three pods and the Pushgateway
                    break
            time.sleep(0.1)
        yield ask


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("prometheus"), reason="no prometheus on PATH (Debian: prometheus)")
def test_a_pod_cannot_forge_its_labels(asked: Callable[[str], list[dict[str, str]]]) -> None:
    """A pod of dev that claims to be production's canary stays dev's; too many or too long series fail."""
    mine = {
        "namespace": "other-dev",
        "pod": "liar",
        "track": "stable",
        "model": "other",
        "container": "bento",
    }
    for name, own in ((COUNT, {"version": "b2"}), (HTTP, {"endpoint": "/predict"})):
        (found,) = asked(name)
        assert found == {**found, **mine, **own, "job": "other-dev/serving"}
        assert not [label for label in found if label.startswith("exported_")]
    taken = {series["pod"]: series["value"] for series in asked('up{job="other-dev/serving"}')}
    assert taken == {"liar": "1", "flood": "0", "long": "0"}
    assert not asked('{namespace="shop-production"}')
    assert not asked('{track="canary"}')
    monitored = {(s["__name__"], s["value"]) for s in asked('{job="monitor"}')}
    assert monitored == {
        ("model_accuracy_score", "0.5"),
        ("push_time_seconds", "5"),
        ("feature_drift_score", "0.1"),
    }
    assert {s["job"] for s in asked("model_accuracy_score")} == {"monitor", "other-dev/serving"}
