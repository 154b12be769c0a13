"""Prometheus, its Pushgateway and Alertmanager on the node: what operators do in a larger cluster.

`discovery.py` beside them turns PodMonitor and PrometheusRule objects into files that Prometheus reads.
Everything is scraped every two seconds, whatever interval a PodMonitor asks for: tests wait for it.
"""

import sys
from pathlib import Path
from typing import Any

import argocd
import gateway
import process
from kube import apply, established
from place import ALERTMANAGER_PORT, NODE, PROMETHEUS_PORT, PUSHGATEWAY_PORT, Place, write_json
from process import answers, wait

HERE = Path(__file__).resolve().parent
CRDS = ("podmonitors", "prometheusrules")
PROMETHEUS, ALERTMANAGER = f"{NODE}:{PROMETHEUS_PORT}", f"{NODE}:{ALERTMANAGER_PORT}"
PUSHGATEWAY = f"{NODE}:{PUSHGATEWAY_PORT}"


def start(place: Place) -> None:
    """Start Prometheus and what belongs to it, and wait until all answer; the API server has to be up."""
    _begin(place)
    _wait(place)


def _begin(place: Place) -> None:
    """Put CRDs and the Service into the cluster and start the four programs."""
    apply(place, place.crds / "prometheus")
    established(place, *(f"{name}.monitoring.coreos.com" for name in CRDS))
    apply(place, HERE / "manifests" / "prometheus.yaml")
    folder = place.folder("prometheus")
    for name in ("targets", "rules"):
        place.folder(f"prometheus/{name}")
    write_json(folder / "prometheus.yml", config(folder))
    # Alerts are seen in its API; whom they are sent to is not this node's business.
    write_json(folder / "alertmanager.yml", {"route": {"receiver": "none"}, "receivers": [{"name": "none"}]})
    process.start(place, "alertmanager", _alertmanager(place, folder))
    process.start(place, "pushgateway", _pushgateway(place))
    process.start(place, "prometheus", _prometheus(place, folder))
    process.start(place, "discovery", [sys.executable, HERE / "discovery.py"])


def _wait(place: Place) -> None:
    """Wait until all three answer and the first targets are written."""
    wait(place, "prometheus", lambda: answers(f"http://{PROMETHEUS}/-/ready"))
    wait(place, "alertmanager", lambda: answers(f"http://{ALERTMANAGER}/-/ready"))
    wait(place, "pushgateway", lambda: answers(f"http://{PUSHGATEWAY}/-/ready"))
    wait(place, "discovery", (place.run / "prometheus/targets/pods.json").is_file)


def config(folder: Path) -> dict[str, Any]:
    """Prometheus' configuration: the node's own programs, and pods and rules as files name them."""
    programs = {f"argocd-{name}": address for name, address in argocd.METRICS.items()}
    pods = {"files": [f"{folder}/targets/*.json"], "refresh_interval": "10s"}  # seen at once by inotify
    return {
        "global": {"scrape_interval": "2s", "scrape_timeout": "2s", "evaluation_interval": "2s"},
        "rule_files": [f"{folder}/rules/*.json"],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [ALERTMANAGER]}]}]},
        "scrape_configs": [
            {"job_name": "pods", "file_sd_configs": [pods], "honor_labels": True},  # as our PodMonitor asks
            _job("envoy", gateway.STATS) | {"metrics_path": "/stats/prometheus"},
            _job("contour", gateway.METRICS),
            _job("pushgateway", PUSHGATEWAY) | {"honor_labels": True},  # what was pushed keeps its own job
            *(_job(name, address) for name, address in programs.items()),
        ],
    }


def _job(name: str, address: str) -> dict[str, Any]:
    return {"job_name": name, "static_configs": [{"targets": [address]}]}


def _prometheus(place: Place, folder: Path) -> list[str | Path]:
    return [
        place.program("prometheus"),
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={place.fast}/prometheus",
        "--storage.tsdb.retention.time=1d",
        f"--web.listen-address={PROMETHEUS}",
        f"--web.external-url=http://{PROMETHEUS}",
        "--log.level=warn",
    ]


def _alertmanager(place: Place, folder: Path) -> list[str | Path]:
    return [
        place.program("prometheus-alertmanager"),
        f"--config.file={folder}/alertmanager.yml",
        f"--storage.path={place.fast}/alertmanager",
        f"--web.listen-address={ALERTMANAGER}",
        "--cluster.listen-address=",  # alone
    ]


def _pushgateway(place: Place) -> list[str | Path]:
    return [
        place.program("prometheus-pushgateway"),
        f"--web.listen-address={PUSHGATEWAY}",
        f"--persistence.file={place.fast}/pushgateway",  # Debian's own would outlive the cluster
        "--persistence.interval=10s",
        "--log.level=warn",
    ]
