"""The changes that fit a fork to one small node. They touch overlays and params only."""

import json
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from loop.core import params

FEW_TREES, MORE_TREES = 40, 120  # trees of the first model, and of the one that the pull request proposes
WORLD = {
    "ingest.simulator": {"seed": 0, "customers": 600, "terminals": 1200, "days": 70, "start": "2018-04-01"},
    "split": {
        "kind": "time",
        "until": "2018-06-10T00:00:00",
        "train_days": 40,
        "delay_days": 7,
        "test_days": 7,
    },
    "evaluate.protocol.known_days": 0,  # because nearly every card of so small a world is compromised
    "gate.floors": {"average_precision": 0.2, "roc_auc": 0.6},
    "canary.peak": 1,  # because component `small` gives each track one pod
    "train.n_estimators": FEW_TREES,
}


def configure(clone: Path, package: str, store: Path) -> None:
    """Set the model's params: a small simulated world, and the store's folder."""
    changes = {f"models.{package}.{key}": value for key, value in WORLD.items()}
    params.edit(clone, changes | {f"models.{package}.monitor.store": str(store)})


def shrink(clone: Path, name: str, store: Path, github: tuple[str, int]) -> None:
    """Change production's overlay: small pods, the store on a volume, and GitHub at a private address."""
    folder = clone / "kustomize" / "overlays" / "production" / name
    (folder / "store.yaml").write_text(json.dumps(claim(), indent=2) + "\n")
    path, yaml = folder / "kustomization.yaml", YAML()
    overlay = yaml.load(path.read_text())
    overlay["components"].append("../../../components/small")
    overlay.setdefault("resources", []).append("store.yaml")
    overlay["patches"] += [
        mount_store(store),
        *(allow_egress(*github, policy) for policy in ("judge", "drift")),
    ]
    with path.open("w") as file:
        yaml.dump(overlay, file)


def volume(store: Path, namespace: str) -> dict[str, Any]:
    """Return the volume for the store's folder, as an operator makes it; only `claim` may bind it."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": "store"},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteMany"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "",
            "claimRef": {"namespace": namespace, "name": "store"},
            "hostPath": {"path": str(store)},
        },
    }


def claim() -> dict[str, Any]:
    """Return the claim that binds the store's volume."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "store"},
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "storageClassName": "",
            "volumeName": "store",
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }


def mount_store(store: Path) -> dict[str, Any]:
    """Return a patch that mounts the store in the drift job's pod, at the path that params.yaml names."""
    pod = "/spec/jobTemplate/spec/template/spec"
    mount = {"name": "store", "mountPath": str(store), "readOnly": True}
    ours = {"name": "store", "persistentVolumeClaim": {"claimName": "store", "readOnly": True}}
    return _patch(
        "CronJob", "drift", [(f"{pod}/volumes/-", ours), (f"{pod}/containers/0/volumeMounts/-", mount)]
    )


def allow_egress(address: str, port: int, policy: str) -> dict[str, Any]:
    """Return a patch of a network policy that opens the way to GitHub at a private address."""
    edge = {"to": [{"ipBlock": {"cidr": f"{address}/32"}}], "ports": [{"protocol": "TCP", "port": port}]}
    return _patch("NetworkPolicy", policy, [("/spec/egress/-", edge)])


def _patch(kind: str, name: str, additions: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a patch with additions. It does nothing where the overlay has no such object."""
    operations = [{"op": "add", "path": path, "value": value} for path, value in additions]
    return {"target": {"kind": kind, "name": name}, "patch": json.dumps(operations)}
