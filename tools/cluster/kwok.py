"""Fake nodes by kwok: Kubernetes schedules on them, and their pods are Ready although nothing runs.

They are for what a laptop has not: a GPU pool, and room for production's requests. A taint keeps every
pod away that does not tolerate `kwok.x-k8s.io/node`, so nothing lands there by accident.
"""

import json
from contextlib import suppress
from typing import Any

import process
from kube import apply, kubectl
from place import NODE, ClusterError, Place

FAKE = "kwok.x-k8s.io/node"
PODS = "10.245.0.0/16"  # of fake pods; nobody answers there
PORT = 10247
GPU = "nvidia.com/gpu"
ROOM = {"cpu": "16", "memory": "64Gi", "pods": "110"}
POOLS: dict[str, dict[str, Any]] = {  # as the clouds' pools of NVIDIA A100 nodes are labelled and tainted
    "cpu": {"labels": {}, "taints": [], "room": ROOM},
    "gpu": {
        "labels": {"accelerator": "nvidia-a100"},
        "taints": [{"key": GPU, "value": "present", "effect": "NoSchedule"}],
        "room": ROOM | {GPU: "1"},
    },
}


def scale(place: Place, wanted: dict[str, int]) -> None:
    """Have so many fake nodes of each pool that is named; 0 removes them.

    Raises:
        ClusterError: there is no such pool, or kwok does not run.
    """
    unknown = wanted.keys() - POOLS.keys()
    if unknown:
        raise ClusterError(
            f"no pool {', '.join(sorted(unknown))} of fake nodes: there are {', '.join(POOLS)}"
        )
    if any(wanted.values()):
        _run(place)
    for pool, count in wanted.items():
        _shrink(place, pool, count)
        if count:
            nodes = [node(pool, number) for number in range(count)]
            apply(place, text=json.dumps({"apiVersion": "v1", "kind": "List", "items": nodes}))
            kubectl(
                place, "wait", "--for=condition=Ready", "--timeout=60s", "node", f"--selector=pool={pool}"
            )


def node(pool: str, number: int) -> dict[str, Any]:
    """One fake node, as an object of Kubernetes."""
    name, facts = f"fake-{pool}-{number}", POOLS[pool]
    labels = {FAKE: "fake", "pool": pool, "kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {FAKE: "fake"},
            "labels": labels | facts["labels"],
        },
        "spec": {"taints": [{"key": FAKE, "value": "fake", "effect": "NoSchedule"}, *facts["taints"]]},
        "status": {"capacity": facts["room"], "allocatable": facts["room"]},
    }


def _shrink(place: Place, pool: str, count: int) -> None:
    """Remove the nodes beyond `count`; their pods go with them."""
    found = kubectl(place, "get", "nodes", f"--selector=pool={pool}", "--output=name").split()
    over = [name for name in found if int(name.rpartition("-")[2]) >= count]
    if over:
        kubectl(place, "delete", "--wait=false", *over)


def _run(place: Place) -> None:
    with suppress(ClusterError):
        if process.alive(place, "kwok"):
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
    process.start(place, "kwok", [place.program("kwok"), *options, *stages])
    process.wait(place, "kwok", lambda: process.answers(f"http://127.0.0.1:{PORT}/healthz"))
