"""Runs Prometheus, Pushgateway and Alertmanager on the node; a larger cluster would use operators.

discovery.py writes PodMonitor and PrometheusRule objects as files that Prometheus reads. Everything is
scraped every two seconds, whatever interval a PodMonitor has, because tests wait for it. `honorLabels`,
relabelings and limits are taken from the repository's own PodMonitors.
"""

import re
import sys
from pathlib import Path
from typing import Any

import argocd
import gateway
import process
from kube import apply, define
from place import ALERTMANAGER_PORT, NODE, PROMETHEUS_PORT, PUSHGATEWAY_PORT, ROOT, Place
from process import wait
from ruamel.yaml import YAML

HERE = Path(__file__).resolve().parent
SERVING = ROOT / "kustomize" / "components" / "monitoring" / "podmonitor.yaml"
PUSHED = ROOT / "kustomize" / "platform" / "monitoring" / "pushgateway.yaml"
# Keys of a PodMonitor's endpoint that discovery.py handles, or that the local cluster ignores
ELSEWHERE = ("port", "path", "interval")
RENAMED = {"relabelings": "relabel_configs", "metric_relabelings": "metric_relabel_configs"}
PROMETHEUS, ALERTMANAGER = f"{NODE}:{PROMETHEUS_PORT}", f"{NODE}:{ALERTMANAGER_PORT}"
PUSHGATEWAY = f"{NODE}:{PUSHGATEWAY_PORT}"


def start(place: Place) -> None:
    """Start Prometheus, Alertmanager, Pushgateway and discovery, once the API server runs."""
    define(place, "prometheus")
    apply(place, HERE / "manifests" / "prometheus.yaml")
    folder = place.folder("prometheus")
    for name in ("targets", "rules"):
        place.folder(f"prometheus/{name}")
    place.file("prometheus/prometheus.yml", config(folder))
    # The local cluster sends alerts to nobody; they can be read from Alertmanager's API.
    nobody = {"route": {"receiver": "none"}, "receivers": [{"name": "none"}]}
    place.file("prometheus/alertmanager.yml", nobody)
    alertmanager = [
        "prometheus-alertmanager",
        f"--config.file={folder}/alertmanager.yml",
        f"--storage.path={place.fast}/alertmanager",
        f"--web.listen-address={ALERTMANAGER}",
        "--cluster.listen-address=",  # an empty address switches Alertmanager's clustering off
    ]
    pushgateway = [
        "prometheus-pushgateway",
        f"--web.listen-address={PUSHGATEWAY}",
        f"--persistence.file={place.fast}/pushgateway",  # Debian's default file would outlive the cluster
        "--persistence.interval=10s",
        "--log.level=warn",
    ]
    server = [
        "prometheus",
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={place.fast}/prometheus",
        "--storage.tsdb.retention.time=1d",
        f"--web.listen-address={PROMETHEUS}",
        f"--web.external-url=http://{PROMETHEUS}",
        "--log.level=warn",
    ]
    process.start(place, "alertmanager", alertmanager)
    process.start(place, "pushgateway", pushgateway)
    process.start(place, "prometheus", server)
    process.start(place, "discovery", [sys.executable, HERE / "discovery.py"])
    servers = {"prometheus": PROMETHEUS, "alertmanager": ALERTMANAGER, "pushgateway": PUSHGATEWAY}
    for name, address in servers.items():
        wait(place, name, f"http://{address}/-/ready")
    wait(place, "discovery", (place.run / "prometheus/targets/pods.json").is_file)


def config(folder: Path) -> dict[str, Any]:
    """Return Prometheus' configuration: the node's own programs, and the files of pods and rules."""
    programs = {f"argocd-{name}": address for name, address in argocd.METRICS.items()}
    # Prometheus notices changed files at once by inotify.
    pods = {"files": [f"{folder}/targets/*.json"], "refresh_interval": "10s"}
    return {
        "global": {"scrape_interval": "2s", "scrape_timeout": "2s", "evaluation_interval": "2s"},
        "rule_files": [f"{folder}/rules/*.json"],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [ALERTMANAGER]}]}]},
        "scrape_configs": [
            {"job_name": "pods", "file_sd_configs": [pods], **asked(SERVING)},
            _job("envoy", gateway.STATS) | {"metrics_path": "/stats/prometheus"},
            _job("contour", gateway.METRICS),
            _job("pushgateway", PUSHGATEWAY) | asked(PUSHED),
            *(_job(name, address) for name, address in programs.items()),
        ],
    }


def asked(manifest: Path) -> dict[str, Any]:
    """Return the scrape options that the operator derives from a PodMonitor, without targets and interval."""
    monitor = next(each for each in YAML(typ="safe").load_all(manifest) if each["kind"] == "PodMonitor")
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    limits = {name: value for name, value in monitor["spec"].items() if name.endswith("Limit")}
    plain = limits | {name: value for name, value in endpoint.items() if name not in ELSEWHERE}
    return {RENAMED.get(name, name): value for name, value in _snake(plain).items()}


def _snake(value: Any) -> Any:
    """Return a value with its keys in Prometheus' spelling: `sampleLimit` becomes `sample_limit`."""
    if isinstance(value, list):
        return [_snake(each) for each in value]
    if isinstance(value, dict):
        keys = [re.sub("[A-Z]", lambda one: f"_{one[0].lower()}", key) for key in value]
        return dict(zip(keys, map(_snake, value.values()), strict=True))
    return value


def _job(name: str, address: str) -> dict[str, Any]:
    return {"job_name": name, "static_configs": [{"targets": [address]}]}
