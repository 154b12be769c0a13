"""Adds fake nodes by kwok: Kubernetes schedules pods on them, which become Ready although nothing runs.

Fake nodes provide resources that a laptop lacks: a GPU pool, and enough CPU and memory for production's
requests. A taint keeps away every pod that does not tolerate `kwok.x-k8s.io/node`, so no pod is scheduled
there by accident.
"""

from contextlib import suppress
from typing import Any

import process
from kube import apply_objects, kubectl
from place import NODE, ClusterError, Place

FAKE = "kwok.x-k8s.io/node"
PODS = "10.245.0.0/16"  # addresses of fake pods, which do not answer
PORT = 10247
GPU = "nvidia.com/gpu"
ROOM = {"cpu": "16", "memory": "64Gi", "pods": "110"}
POOLS: dict[str, dict[str, Any]] = {  # labels and taints are those of NVIDIA A100 pools in the clouds
    "cpu": {"labels": {}, "taints": [], "room": ROOM},
    "gpu": {
        "labels": {"accelerator": "nvidia-a100"},
        "taints": [{"key": GPU, "value": "present", "effect": "NoSchedule"}],
        "room": ROOM | {GPU: "1"},
    },
}


def scale(place: Place, pool: str, count: int) -> None:
    """Give a pool this number of fake nodes."""
    selector = f"--selector=pool={pool}"
    found = kubectl(place, "get", "nodes", selector, "--output=name").split()
    if over := [name for name in found if int(name.rpartition("-")[2]) >= count]:
        kubectl(place, "delete", "--wait=false", *over)  # and with them their pods
    if count:
        _run(place)
        apply_objects(place, [node(pool, number) for number in range(count)])
        kubectl(place, "wait", "node", "--for=condition=Ready", "--timeout=60s", selector)


def node(pool: str, number: int) -> dict[str, Any]:
    """Return the Kubernetes object of a fake node."""
    name, facts = f"fake-{pool}-{number}", POOLS[pool]
    labels = {FAKE: "fake", "pool": pool, "kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "annotations": {FAKE: "fake"}, "labels": labels | facts["labels"]},
        "spec": {"taints": [{"key": FAKE, "value": "fake", "effect": "NoSchedule"}, *facts["taints"]]},
        "status": {"capacity": facts["room"], "allocatable": facts["room"]},
    }


def _run(place: Place) -> None:
    with suppress(ClusterError):
        if process.record(place, "kwok").process:
            return
    stages = [f"--config={path}" for path in sorted((place.crds / "kwok").glob("*.yaml"))]
    options = [
        f"--kubeconfig={place.kubeconfig}",
        "--manage-all-nodes=false",
        f"--manage-nodes-with-annotation-selector={FAKE}=fake",
        f"--node-ip={NODE}",
        f"--node-port={PORT}",
        f"--cidr={PODS}",
        f"--server-address=127.0.0.1:{PORT}",
        "--node-lease-duration-seconds=40",
    ]
    ready = f"http://127.0.0.1:{PORT}/healthz"
    process.start(place, "kwok", ["kwok", *options, *stages], ready=ready)
