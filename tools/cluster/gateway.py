"""The gateway: Contour reads Gateway and HTTPRoute objects, Envoy beside it carries the requests.

Contour is told the one gateway to serve (namespace `gateway`, name `edge`), so it needs no Service of its
own; the GatewayClass then stays without a status, and nobody should wait for it. Contour adds 8000 to a
listener's port: 80 is served at 8080, as soon as there is a first route.
"""

import subprocess
import sys
from functools import partial
from pathlib import Path

import pinned
import process
from kube import apply, established, kubectl
from place import NODE, ClusterError, Place, write_json
from process import answers, environment, wait

PLATFORM = pinned.ROOT / "kustomize" / "platform"
CRDS = ("gatewayclasses", "gateways", "httproutes", "referencegrants")
LOOPBACK = "127.0.0.1"
XDS_PORT = 8201
HEALTH, METRICS = f"{LOOPBACK}:8202", f"{LOOPBACK}:8203"  # Contour's
STATS = f"{LOOPBACK}:8204"  # Envoy's


def start(place: Place) -> None:
    """Start the gateway and wait until it is programmed; needs Prometheus' CRDs: the platform has rules."""
    _begin(place)
    _wait(place)


def _begin(place: Place) -> None:
    """Put the CRDs and the platform into the cluster, and start Contour and Envoy."""
    apply(place, place.crds / "gateway")
    established(place, *(f"{name}.gateway.networking.k8s.io" for name in CRDS))
    apply(place, text=platform())
    folder = place.folder("gateway")
    write_json(folder / "contour.json", {"gateway": {"gatewayRef": {"name": "edge", "namespace": "gateway"}}})
    process.start(place, "contour", _contour(place, folder / "contour.json"))
    process.start(place, "envoy", _envoy(place, folder / "envoy.json"))


def _wait(place: Place) -> None:
    """Wait until the gateway is programmed and Envoy has taken what Contour says."""
    wait(place, "contour", partial(answers, f"http://{HEALTH}/healthz"))
    programmed = "--for=condition=Programmed"
    kubectl(place, "wait", "--namespace=gateway", programmed, "--timeout=60s", "gateway/edge")
    wait(place, "envoy", partial(answers, f"http://{STATS}/ready"))


def platform() -> str:
    """kustomize/platform, rendered; Argo CD takes it over where an Application says so."""
    build = [pinned.folder() / "kustomize", "build", PLATFORM]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ClusterError(f"kustomize build {PLATFORM}: {done.stderr.strip()}")
    return done.stdout


def _contour(place: Place, config: Path) -> list[str | Path]:
    def at(name: str, address: str) -> list[str]:
        host, port = address.split(":")
        return [f"--{name}-address={host}", f"--{name}-port={port}"]

    return [
        place.program("contour"),
        "serve",
        f"--kubeconfig={place.kubeconfig}",
        f"--config-path={config}",
        "--disable-leader-election",
        "--insecure",  # towards Envoy, on the loopback
        f"--ingress-status-address={NODE}",
        f"--envoy-service-http-address={NODE}",
        *at("xds", f"{LOOPBACK}:{XDS_PORT}"),
        *at("health", HEALTH),
        *at("http", METRICS),
        *at("stats", STATS),
    ]


def _envoy(place: Place, config: Path) -> list[str | Path]:
    """Envoy's command line, after Contour wrote the file that leads Envoy to it."""
    bootstrap = [
        f"--xds-address={LOOPBACK}",
        f"--xds-port={XDS_PORT}",
        "--xds-resource-version=v3",
        f"--admin-address={place.link}/gateway/admin.sock",
    ]
    command = [place.program("contour"), "bootstrap", config, *bootstrap]
    subprocess.run(command, check=True, capture_output=True, env=environment(place))
    # Without the second option Envoy ends as soon as whoever started it does.
    options = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]
    node = ["--service-cluster", "gateway", "--service-node", "edge"]
    return [Path(sys.executable).with_name("envoy"), "--config-path", config, *node, *options]
