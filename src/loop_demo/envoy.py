"""Runs Envoy as the demo's gateway. Envoy reads its endpoints and weights from xDS files and watches them."""

import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import httpx
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from loop.core.files import write_json

TYPES = "type.googleapis.com/envoy"
NOBODY = {"name": "nobody", "weight": 1}  # a cluster that does not exist, so Envoy answers 503


class Envoy:
    """One Envoy process on 127.0.0.1. `route` changes the gateway's weights while requests are in flight.

    Envoy also gives each track its own address, as a Kubernetes Service does. The judge reads metrics there.
    """

    def __init__(self, folder: Path, ports: Mapping[str, int]) -> None:
        """`ports` holds the port of `admin`, of `gateway` and of each track."""
        self.folder, self.ports = folder, ports

    def url(self, name: str) -> str:
        """The URL of the gateway (`gateway`), of Envoy's admin interface (`admin`) or of a track."""
        return f"http://127.0.0.1:{self.ports[name]}"

    def __enter__(self) -> Self:
        """Start Envoy without a track; it answers every request with 503 until `route` is called."""
        self.route({}, {}, ())
        write_json(self.folder / "bootstrap.json", _bootstrap(self.folder, self.ports))
        command = ["envoy", "-c", "bootstrap.json", "--use-dynamic-base-id"]
        command += ["--concurrency", "1", "--log-level", "warning"]
        with (self.folder / "envoy.log").open("wb") as log:
            self._process = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log)
        self._wait_ready()
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def route(self, endpoints: Mapping[str, int], weights: Mapping[str, int], paths: Iterable[str]) -> None:
        """Send `weights` (percent by track) of the traffic to `endpoints` (local port by track).

        Only `paths` are public. Envoy answers any other path with 404, as the cluster's gateway does.
        Clusters are written before the routes that name them, and each file is replaced atomically, so that
        Envoy never reads a route to a cluster that does not exist.
        """
        clusters = [_cluster(track, port) for track, port in sorted(endpoints.items())]
        write_json(self.folder / "cds.json", {"resources": clusters})
        shares = [{"name": t, "weight": weight} for t, weight in weights.items() if weight and t in endpoints]
        table = _table({"route": {"weighted_clusters": {"clusters": shares or [NOBODY]}}}, paths)
        kind = f"{TYPES}.config.route.v3.RouteConfiguration"
        write_json(self.folder / "rds.json", {"resources": [{"@type": kind, **table}]})

    @retry(retry=retry_if_exception_type(httpx.HTTPError), wait=wait_fixed(0.1), stop=stop_after_delay(20))
    def _wait_ready(self) -> None:
        httpx.get(f"{self.url('admin')}/ready", trust_env=False).raise_for_status()


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _bootstrap(folder: Path, ports: Mapping[str, int]) -> dict[str, Any]:
    """Return Envoy's settings: clusters and the gateway's routes come from files, a track's from here."""

    def file(name: str) -> dict[str, Any]:
        return {"path_config_source": {"path": str(folder / name)}}

    listeners = []
    for name in sorted(ports.keys() - {"admin"}):
        routes = {"route_config": _table({"route": {"cluster": name}})}
        if name == "gateway":
            routes = {"rds": {"route_config_name": "routes", "config_source": file("rds.json")}}
        listeners.append(_listener(name, ports[name], routes))
    return {
        "node": {"id": "demo", "cluster": "demo"},
        "admin": {"address": _address(ports["admin"])},
        "static_resources": {"listeners": listeners},
        "dynamic_resources": {"cds_config": file("cds.json")},
    }


def _listener(name: str, port: int, routes: Mapping[str, Any]) -> dict[str, Any]:
    filters = f"{TYPES}.extensions.filters"
    manager = {
        "@type": f"{filters}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        **routes,
        "http_filters": [{"name": "router", "typed_config": {"@type": f"{filters}.http.router.v3.Router"}}],
    }
    chains = [{"filters": [{"name": "http", "typed_config": manager}]}]
    return {"name": name, "address": _address(port), "filter_chains": chains}


def _cluster(track: str, port: int) -> dict[str, Any]:
    endpoint = {"endpoint": {"address": _address(port)}}
    return {
        "@type": f"{TYPES}.config.cluster.v3.Cluster",
        "name": track,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": track, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def _table(action: Mapping[str, Any], paths: Iterable[str] = ()) -> dict[str, Any]:
    """Return a table that takes an action for each of the paths, or without any for every path."""
    routes = [{"match": {"path": path}, **action} for path in paths] or [{"match": {"prefix": "/"}, **action}]
    host = {"name": "all", "domains": ["*"], "routes": routes}
    # Without this, Envoy would reject a route whose cluster is missing. A track's cluster may be missing for
    # a moment while the track starts or stops; Envoy then answers 503.
    return {"name": "routes", "virtual_hosts": [host], "validate_clusters": False}
