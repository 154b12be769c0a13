"""What a team changes in its fork for one small node: overlays and params, and nothing else."""

import json
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from loop.core import params

FEW, TREES = 40, 120  # what the first model is trained with, and what the pull request proposes
WORLD = {
    "ingest.simulator": {"seed": 0, "customers": 600, "terminals": 1200, "days": 70, "start": "2018-04-01"},
    "split": {
        "kind": "time",
        "until": "2018-06-10T00:00:00",
        "train_days": 40,
        "delay_days": 7,
        "test_days": 7,
    },
    "evaluate.protocol.known_days": 0,  # in so small a world hardly a card stays uncompromised
    "gate.floors": {"average_precision": 0.2, "roc_auc": 0.6},
    "canary.peak": 1,  # component `small` has one pod a track
    "train.n_estimators": FEW,
}


def configure(clone: Path, package: str, store: Path) -> None:
    """The model's params: a small world, and where production logs."""
    changes = {f"models.{package}.{key}": value for key, value in WORLD.items()}
    params.edit(clone, changes | {f"models.{package}.monitor.store": str(store)})


def shrink(clone: Path, name: str, store: Path, github: tuple[str, int]) -> None:
    """Production's overlay: small pods, its store on a volume, GitHub at a private address."""
    folder = clone / "kustomize" / "overlays" / "production" / name
    (folder / "store.yaml").write_text(json.dumps(claim(), indent=2) + "\n")
    path, yaml = folder / "kustomization.yaml", YAML()
    overlay = yaml.load(path.read_text())
    overlay["components"].append("../../../components/small")
    overlay.setdefault("resources", []).append("store.yaml")
    overlay["patches"] += [mounted(store), *(reaching(*github, policy) for policy in ("judge", "drift"))]
    with path.open("w") as file:
        yaml.dump(overlay, file)


def volume(store: Path, namespace: str) -> dict[str, Any]:
    """The volume that the cluster's operator makes of the store's folder; for `claim` alone."""
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
    """The claim to the store's volume."""
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


def mounted(store: Path) -> dict[str, Any]:
    """The store where params.yaml says that it is, in the drift job's pod."""
    pod = "/spec/jobTemplate/spec/template/spec"
    mount = {"name": "store", "mountPath": str(store), "readOnly": True}
    ours = {"name": "store", "persistentVolumeClaim": {"claimName": "store", "readOnly": True}}
    return _patch(
        "CronJob", "drift", [(f"{pod}/volumes/-", ours), (f"{pod}/containers/0/volumeMounts/-", mount)]
    )


def reaching(address: str, port: int, policy: str) -> dict[str, Any]:
    """A network policy that also lets out to GitHub at a private address."""
    edge = {"to": [{"ipBlock": {"cidr": f"{address}/32"}}], "ports": [{"protocol": "TCP", "port": port}]}
    return _patch("NetworkPolicy", policy, [("/spec/egress/-", edge)])


def _patch(kind: str, name: str, additions: list[tuple[str, Any]]) -> dict[str, Any]:
    """A patch that adds; where there is no such object (yet), none is made."""
    operations = [{"op": "add", "path": path, "value": value} for path, value in additions]
    return {"target": {"kind": kind, "name": name}, "patch": json.dumps(operations)}
