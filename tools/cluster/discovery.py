"""PodMonitors and PrometheusRules of the cluster as files that Prometheus reads.

Debian's Prometheus is built without Kubernetes discovery. Labels are those that the Prometheus operator
gives: job `<namespace>/<PodMonitor>`, namespace, pod, container, endpoint, and the pod's labels that
`podTargetLabels` names; all labels of the pod as `__meta_kubernetes_pod_label_…`, for relabelings to read.
"""

import json
import os
import re
import signal
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import httpx
from place import API_PORT, NODE, PODS, ClusterError, Place, place, write, write_json
from process import record

Thing = dict[str, Any]  # one Kubernetes object
MONITORING = "/apis/monitoring.coreos.com/v1"
SETTLE = 0.2  # seconds: one change seldom comes alone


class Mirror(threading.Thread):
    """All objects of one kind as they are now: listed, then watched, and listed again when that ends."""

    def __init__(self, api: httpx.Client, path: str, changed: threading.Event) -> None:
        super().__init__(daemon=True)
        self.api, self.path, self.changed = api, path, changed
        self.known: dict[str, Thing] = {}
        self.listed = threading.Event()

    def run(self) -> None:
        while True:
            with suppress(httpx.HTTPError, ValueError):
                self._watch(self._list())
            time.sleep(1)

    def things(self) -> list[Thing]:
        """What is known, as a copy."""
        return list(self.known.copy().values())

    def _list(self) -> str:
        answer = self.api.get(self.path).raise_for_status().json()
        self.known = {thing["metadata"]["uid"]: thing for thing in answer["items"]}
        self.listed.set()
        self.changed.set()
        return str(answer["metadata"]["resourceVersion"])

    def _watch(self, version: str) -> None:
        options = {"watch": "1", "resourceVersion": version, "timeoutSeconds": "240"}
        with self.api.stream("GET", self.path, params=options) as answer:
            for line in answer.raise_for_status().iter_lines():
                event = json.loads(line)
                if event["type"] == "ERROR":
                    return
                self._take(event["type"], event["object"])

    def _take(self, kind: str, thing: Thing) -> None:
        if kind == "DELETED":
            self.known.pop(thing["metadata"]["uid"], None)
        else:
            self.known[thing["metadata"]["uid"]] = thing
        self.changed.set()


def selects(selector: Thing, labels: dict[str, str]) -> bool:
    """Whether a label selector takes something with these labels."""
    wanted = selector.get("matchLabels") or {}
    rules = selector.get("matchExpressions") or []
    return all(labels.get(k) == v for k, v in wanted.items()) and all(_holds(rule, labels) for rule in rules)


def _holds(rule: Thing, labels: dict[str, str]) -> bool:
    value = labels.get(rule["key"])
    match rule["operator"]:
        case "In":
            return value in rule["values"]
        case "NotIn":
            return value not in rule["values"]
        case "Exists":
            return value is not None
        case _:
            return value is None


def targets(monitors: list[Thing], pods: list[Thing]) -> list[Thing]:
    """What Prometheus is to scrape, in its file format; sorted, so that the same is the same."""
    running = [pod for pod in pods if _scrapable(pod)]
    groups = [group for monitor in monitors for pod in running for group in _groups(monitor, pod)]
    return sorted(groups, key=lambda group: (group["labels"]["job"], group["targets"]))


def _scrapable(pod: Thing) -> bool:
    """Whether a pod has an address that somebody answers at: a fake node's pods have none of the node's."""
    address, phase = pod["status"].get("podIP"), pod["status"].get("phase")
    return phase not in ("Succeeded", "Failed") and bool(address) and ip_address(address) in ip_network(PODS)


def _groups(monitor: Thing, pod: Thing) -> Iterator[Thing]:
    """One target for every port of the pod that the monitor names."""
    spec, labels = monitor["spec"], pod["metadata"].get("labels") or {}
    if not _looks_at(monitor, pod["metadata"]["namespace"]) or not selects(spec["selector"], labels):
        return
    copied = {_label(name): labels[name] for name in spec.get("podTargetLabels") or [] if name in labels}
    copied |= {f"__meta_kubernetes_pod_label_{_label(name)}": value for name, value in labels.items()}
    for endpoint in spec["podMetricsEndpoints"]:
        for container in pod["spec"]["containers"]:
            for port in container.get("ports") or []:
                if port.get("name") == endpoint["port"]:
                    fixed = _fixed(monitor, endpoint, pod, container["name"])
                    yield {
                        "targets": [f"{pod['status']['podIP']}:{port['containerPort']}"],
                        "labels": copied | fixed,
                    }


def _looks_at(monitor: Thing, namespace: str) -> bool:
    chosen = monitor["spec"].get("namespaceSelector") or {}
    own = [monitor["metadata"]["namespace"]]
    return bool(chosen.get("any")) or namespace in (chosen.get("matchNames") or own)


def _fixed(monitor: Thing, endpoint: Thing, pod: Thing, container: str) -> dict[str, str]:
    """The labels that every target has, and how it is asked."""
    return {
        "job": f"{monitor['metadata']['namespace']}/{monitor['metadata']['name']}",
        "namespace": pod["metadata"]["namespace"],
        "pod": pod["metadata"]["name"],
        "container": container,
        "endpoint": endpoint["port"],
        "__metrics_path__": endpoint.get("path") or "/metrics",
        "__scheme__": endpoint.get("scheme") or "http",
    }


def _label(name: str) -> str:
    """A Kubernetes label's name as a Prometheus label's."""
    return re.sub(r"[^a-zA-Z0-9_]", "_", name)


def write_rules(folder: Path, rules: list[Thing]) -> bool:
    """Write a file for every PrometheusRule that promtool finds right; whether that changed any file."""
    wanted = {
        f"{rule['metadata']['namespace']}-{rule['metadata']['name']}.json": _rules(rule) for rule in rules
    }
    before = _written(folder)
    for name in before.keys() - wanted.keys():
        (folder / name).unlink()
    for name in (name for name in wanted if wanted[name] != before.get(name)):
        _write_right(folder / name, wanted[name])
    return _written(folder) != before


def _written(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.glob("*.json")}


def _rules(rule: Thing) -> str:
    return json.dumps({"groups": rule["spec"].get("groups") or []}, sort_keys=True)


def _write_right(path: Path, text: str) -> None:
    """One wrong file would keep Prometheus from reading any: it is left out, and the log says why."""
    aside = path.with_suffix(".new")
    write(aside, text)
    done = subprocess.run(["promtool", "check", "rules", aside], capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{path.stem} is no rule file: {done.stdout}{done.stderr}", flush=True)
        path.unlink(missing_ok=True)
        aside.unlink()
    else:
        aside.rename(path)


def reload(place: Place) -> None:
    """Have Prometheus read its rules again; when it does not run, it will when it starts."""
    with suppress(ClusterError, ProcessLookupError):
        one = record(place, "prometheus")
        if one.alive:
            os.kill(one.pid, signal.SIGHUP)


def client(place: Place) -> httpx.Client:
    """The API server, asked as the administrator."""
    trust = ssl.create_default_context(cafile=str(place.pki / "ca.crt"))
    trust.load_cert_chain(place.pki / "admin.crt", place.pki / "admin.key")
    return httpx.Client(base_url=f"https://{NODE}:{API_PORT}", verify=trust, timeout=300, trust_env=False)


def follow(place: Place) -> None:
    """Follow the cluster until killed."""
    api, changed = client(place), threading.Event()
    paths = ("/api/v1/pods", f"{MONITORING}/podmonitors", f"{MONITORING}/prometheusrules")
    pods, monitors, rules = mirrors = [Mirror(api, path, changed) for path in paths]
    for mirror in mirrors:
        mirror.start()
    for mirror in mirrors:
        mirror.listed.wait()
    while changed.wait():
        time.sleep(SETTLE)
        changed.clear()
        write_json(place.run / "prometheus/targets/pods.json", targets(monitors.things(), pods.things()))
        if write_rules(place.run / "prometheus/rules", rules.things()):
            reload(place)


if __name__ == "__main__":
    follow(place())
