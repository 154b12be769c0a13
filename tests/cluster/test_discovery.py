"""Prometheus gets the cluster's targets and rules as the Prometheus operator would give them."""

from pathlib import Path
from typing import Any

import discovery
import pytest
from place import Place

MONITOR = {
    "metadata": {"name": "serving", "namespace": "fraud-production"},
    "spec": {
        "selector": {"matchLabels": {"app.kubernetes.io/component": "serving"}},
        "podTargetLabels": ["track", "app.kubernetes.io/name", "absent"],
        "podMetricsEndpoints": [{"port": "http", "path": "/metrics", "interval": "15s"}],
    },
}


def pod(**changes: Any) -> dict[str, Any]:
    """Return a serving pod with changes of namespace, component, address or phase."""
    labels = {"app.kubernetes.io/component": changes.get("component", "serving"), "track": "canary"}
    ports = [{"name": "http", "containerPort": 3000}, {"name": "other", "containerPort": 1}]
    return {
        "metadata": {
            "name": "serving-canary-1",
            "namespace": changes.get("namespace", "fraud-production"),
            "labels": labels | {"app.kubernetes.io/name": "fraud"},
        },
        "spec": {"containers": [{"name": "bento", "ports": ports}, {"name": "beside"}]},
        "status": {"podIP": changes.get("address", "10.244.0.9"), "phase": changes.get("phase", "Running")},
    }


def test_a_target_has_the_operators_labels() -> None:
    """A pod's target has the labels that the Prometheus operator would give it, and no others."""
    assert discovery.targets([MONITOR], [pod()]) == [
        {
            "targets": ["10.244.0.9:3000"],
            "labels": {
                "job": "fraud-production/serving",
                "namespace": "fraud-production",
                "pod": "serving-canary-1",
                "container": "bento",
                "endpoint": "http",
                "track": "canary",
                "app_kubernetes_io_name": "fraud",
                "__meta_kubernetes_pod_label_app_kubernetes_io_component": "serving",
                "__meta_kubernetes_pod_label_app_kubernetes_io_name": "fraud",
                "__meta_kubernetes_pod_label_track": "canary",
                "__metrics_path__": "/metrics",
                "__scheme__": "http",
            },
        }
    ]


@pytest.mark.parametrize(
    "other",
    [
        pod(namespace="fraud-staging"),
        pod(component="judge"),
        pod(address=None),
        pod(address="10.245.0.9"),
        pod(phase="Succeeded"),
    ],
    ids=["namespace", "labels", "no address", "fake node", "ended"],
)
def test_other_pods_are_not_scraped(other: dict[str, Any]) -> None:
    """Pods of other namespaces or labels, and pods that cannot answer, are not scraped."""
    assert discovery.targets([MONITOR], [other]) == []


@pytest.mark.parametrize(
    ("operator", "values", "taken"),
    [
        ("In", ["stable", "canary"], True),
        ("In", ["stable"], False),
        ("NotIn", ["stable"], True),
        ("Exists", None, True),
        ("DoesNotExist", None, False),
    ],
)
def test_selectors_work_as_in_kubernetes(operator: str, values: list[str] | None, taken: bool) -> None:
    """Each operator of a label selector selects the same pods as in Kubernetes."""
    rule = {"key": "track", "operator": operator, "values": values}
    assert discovery.selects({"matchExpressions": [rule]}, {"track": "canary"}) is taken


def rule(name: str, expression: str) -> dict[str, Any]:
    groups = [{"name": "g", "rules": [{"alert": name, "expr": expression}]}]
    return {"metadata": {"name": name, "namespace": "monitoring"}, "spec": {"groups": groups}}


def test_only_changes_of_rules_are_reported(tmp_path: Path) -> None:
    """Each PrometheusRule has a file as long as it exists, and it is reported whether any file changed."""
    rules = [rule("first", "vector(1)"), rule("second", "vector(2)")]
    place = Place(run=tmp_path, registry=tmp_path)
    assert discovery.write_rules(place, rules)
    assert {path.stem for path in tmp_path.rglob("*.json")} == {"monitoring-first", "monitoring-second"}
    assert not discovery.write_rules(place, rules)
    assert discovery.write_rules(place, [])
    assert not list(tmp_path.rglob("*.json"))
