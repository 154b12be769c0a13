"""Runs the gateway: Contour reads Gateway and HTTPRoute objects, and Envoy forwards the requests.

Contour is configured with the only gateway that it serves (namespace `gateway`, name `edge`), so it needs no
Service of its own. The GatewayClass then never gets a status, so do not wait for one. Contour adds 8000 to a
listener's port, so port 80 is served at 8080, once the first route exists.
"""

import sys
from pathlib import Path

import process
from kube import apply, define, kubectl
from place import LINK, NODE, ROOT, Place, output, pinned
from process import environment, wait

PLATFORM = ROOT / "kustomize" / "platform"
LOOPBACK = "127.0.0.1"
XDS_PORT = 8201
HEALTH, METRICS = f"{LOOPBACK}:8202", f"{LOOPBACK}:8203"  # addresses of Contour
STATS = f"{LOOPBACK}:8204"  # address of Envoy's statistics


def start(place: Place) -> None:
    """Start the gateway and wait until it is programmed. Its platform needs Prometheus' CRDs."""
    define(place, "gateway")
    # Argo CD manages the platform later, if an Application names it
    apply(place, text=output(pinned() / "kustomize", "build", PLATFORM))
    folder = place.folder("gateway")
    gateway = {"gatewayRef": {"name": "edge", "namespace": "gateway"}}
    # A line for every request would fill the disk under load, and costs Envoy a fifth of its CPU.
    config = place.file("gateway/contour.json", {"gateway": gateway, "accesslog-level": "error"})
    process.start(place, "contour", _contour(place, config))
    process.start(place, "envoy", _envoy(place, folder / "envoy.json"))
    wait(place, "contour", f"http://{HEALTH}/healthz")
    programmed = "--for=condition=Programmed"
    kubectl(place, "wait", "--namespace=gateway", programmed, "--timeout=60s", "gateway/edge")
    wait(place, "envoy", f"http://{STATS}/ready")


def _contour(place: Place, config: Path) -> list[str | Path]:
    def at(name: str, address: str) -> list[str]:
        host, port = address.split(":")
        return [f"--{name}-address={host}", f"--{name}-port={port}"]

    return [
        "contour",
        "serve",
        f"--kubeconfig={place.kubeconfig}",
        f"--config-path={config}",
        "--disable-leader-election",
        "--insecure",  # no TLS towards Envoy, which is on the loopback
        f"--ingress-status-address={NODE}",
        f"--envoy-service-http-address={NODE}",
        *at("xds", f"{LOOPBACK}:{XDS_PORT}"),
        *at("health", HEALTH),
        *at("http", METRICS),
        *at("stats", STATS),
    ]


def _envoy(place: Place, config: Path) -> list[str | Path]:
    """Return Envoy's command line; before that, Contour writes the bootstrap file that the command names."""
    bootstrap = [
        f"--xds-address={LOOPBACK}",
        f"--xds-port={XDS_PORT}",
        "--xds-resource-version=v3",
        f"--admin-address={LINK}/gateway/admin.sock",
    ]
    output("contour", "bootstrap", config, *bootstrap, env=environment(place))
    # Without --disable-hot-restart, Envoy ends as soon as the process that started it ends.
    options = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]
    node = ["--service-cluster", "gateway", "--service-node", "edge"]
    return [Path(sys.executable).with_name("envoy"), "--config-path", config, *node, *options]
