"""Writes the cluster's PodMonitors and PrometheusRules as files that Prometheus reads.

This is needed because Debian's Prometheus is built without Kubernetes discovery. Targets get the same labels
as from the Prometheus operator: job `<namespace>/<PodMonitor>`, namespace, pod, container, endpoint, and the
pod's labels that `podTargetLabels` names. All labels of the pod are also given as
`__meta_kubernetes_pod_label_…`, for relabelings.
"""

import re
import signal
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_address, ip_network
from queue import SimpleQueue
from typing import Any

import httpx
import psutil
from place import API_PORT, NODE, PODS, ClusterError, Place, place
from process import record

Thing = dict[str, Any]  # one Kubernetes object
MONITORING = "/apis/monitoring.coreos.com/v1"
SETTLE = 0.2  # seconds to wait for more changes, because changes usually come in groups


def selects(selector: Thing, labels: dict[str, str]) -> bool:
    """Return whether a label selector matches these labels."""
    wanted = selector.get("matchLabels") or {}
    rules = selector.get("matchExpressions") or []
    return all(labels.get(k) == v for k, v in wanted.items()) and all(_holds(rule, labels) for rule in rules)


def _holds(rule: Thing, labels: dict[str, str]) -> bool:
    value, operator = labels.get(rule["key"]), rule["operator"]
    if operator in ("In", "NotIn"):
        return (value in rule["values"]) == (operator == "In")
    return (value is not None) == (operator == "Exists")


def targets(monitors: list[Thing], pods: list[Thing]) -> list[Thing]:
    """Return the scrape targets in Prometheus' file format, sorted so that equal targets give equal files."""
    running = [pod for pod in pods if runs_here(pod)]
    groups = [group for monitor in monitors for pod in running for group in _groups(monitor, pod)]
    return sorted(groups, key=lambda group: (group["labels"]["job"], group["targets"]))


def runs_here(pod: Thing) -> bool:
    """Return whether a pod runs and has an address on this node, which fake pods lack."""
    address, phase = pod["status"].get("podIP"), pod["status"].get("phase")
    return phase not in ("Succeeded", "Failed") and bool(address) and ip_address(address) in ip_network(PODS)


def _groups(monitor: Thing, pod: Thing) -> Iterator[Thing]:
    """Yield a target for each port of a pod that a PodMonitor names."""
    spec, labels = monitor["spec"], pod["metadata"].get("labels") or {}
    chosen = spec.get("namespaceSelector") or {}
    spaces = chosen.get("matchNames") or [monitor["metadata"]["namespace"]]
    watched = chosen.get("any") or pod["metadata"]["namespace"] in spaces
    if not watched or not selects(spec["selector"], labels):
        return
    copied = {_label(name): labels[name] for name in spec.get("podTargetLabels") or [] if name in labels}
    copied |= {f"__meta_kubernetes_pod_label_{_label(name)}": value for name, value in labels.items()}
    copied["job"] = f"{monitor['metadata']['namespace']}/{monitor['metadata']['name']}"
    copied |= {"namespace": pod["metadata"]["namespace"], "pod": pod["metadata"]["name"]}
    for endpoint in spec["podMetricsEndpoints"]:
        for container in pod["spec"]["containers"]:
            for port in container.get("ports") or []:
                if port.get("name") == endpoint["port"]:
                    address = f"{pod['status']['podIP']}:{port['containerPort']}"
                    own = {
                        "container": container["name"],
                        "endpoint": endpoint["port"],
                        "__metrics_path__": endpoint.get("path") or "/metrics",
                        "__scheme__": endpoint.get("scheme") or "http",
                    }
                    yield {"targets": [address], "labels": copied | own}


def _label(name: str) -> str:
    """Convert a Kubernetes label's name to a valid Prometheus label name."""
    return re.sub(r"[^a-zA-Z0-9_]", "_", name)


def write_rules(place: Place, rules: list[Thing]) -> bool:
    """Write a file for each PrometheusRule, and return whether any file changed."""
    before = {path: path.read_text() for path in place.folder("prometheus/rules").glob("*.json")}
    after = {}
    for rule in rules:
        name = f"{rule['metadata']['namespace']}-{rule['metadata']['name']}.json"
        path = place.file(f"prometheus/rules/{name}", {"groups": rule["spec"].get("groups") or []})
        after[path] = path.read_text()
    for path in before.keys() - after.keys():
        path.unlink()
    return after != before


def reload(place: Place) -> None:
    """Make Prometheus reload its rules. If Prometheus is not running, it reads them when it starts."""
    with suppress(ClusterError, psutil.NoSuchProcess):
        if running := record(place, "prometheus").process:
            running.send_signal(signal.SIGHUP)


def changes(place: Place, *paths: str) -> Iterator[list[list[Thing]]]:
    """Yield the objects at each API path, at first and after each change, until the process is killed."""
    trust = ssl.create_default_context(cafile=str(place.pki / "ca.crt"))
    trust.load_cert_chain(place.pki / "admin.crt", place.pki / "admin.key")
    api = httpx.Client(base_url=f"https://{NODE}:{API_PORT}", verify=trust, timeout=300, trust_env=False)
    changed: SimpleQueue[str] = SimpleQueue()
    for path in paths:
        changed.put(path)
        threading.Thread(target=_watch, args=(api, path, changed), daemon=True).start()
    known: dict[str, list[Thing]] = {}
    while True:
        stale = {changed.get()}
        time.sleep(SETTLE)
        while not changed.empty():
            stale.add(changed.get())
        try:
            for path in stale:
                # version 0 is what the API server has in memory, which is as new as what it sends to watchers
                answer = api.get(path, params={"resourceVersion": "0"}).raise_for_status()
                known[path] = answer.json()["items"]
        except httpx.HTTPError:
            for path in stale:
                changed.put(path)
        else:
            yield [known[path] for path in paths]


def _watch(api: httpx.Client, path: str, changed: "SimpleQueue[str]") -> None:
    """Put an API path into the queue whenever one of its objects may have changed."""
    while True:
        with suppress(httpx.HTTPError), api.stream("GET", path, params={"watch": "1"}) as answer:
            changed.put(path)  # what happened while nobody watched
            for _ in answer.raise_for_status().iter_lines():
                changed.put(path)
        time.sleep(1)


def follow(place: Place) -> None:
    """Rewrite the files after each change of the cluster."""
    paths = ("/api/v1/pods", f"{MONITORING}/podmonitors", f"{MONITORING}/prometheusrules")
    for pods, monitors, rules in changes(place, *paths):
        place.file("prometheus/targets/pods.json", targets(monitors, pods))
        if write_rules(place, rules):
            reload(place)


if __name__ == "__main__":
    follow(place())
