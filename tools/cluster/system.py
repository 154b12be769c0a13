"""Runs the services that pods expect in a cluster: DNS, resource metrics and storage."""

import os
from pathlib import Path

import kube
import process
from place import NODE, STORAGE_OWNER, Place

MANIFESTS = Path(__file__).with_name("manifests")
VOLUMES = 24
COREFILE = """\
.:53 {
  errors
  ready 127.0.0.1:8053
  kubernetes cluster.local in-addr.arpa {
    kubeconfig %s
  }
  cache 5
}
"""


def start_dns(place: Place) -> None:
    """Start CoreDNS on the node's port 53; pods reach it at the usual cluster address."""
    path = place.file("Corefile", COREFILE % place.kubeconfig)
    kube.apply(place, MANIFESTS / "dns.yaml")
    process.start(place, "coredns", ["coredns", "-conf", path], ready="http://127.0.0.1:8053/ready")


def start_metrics(place: Place) -> None:
    """Start metrics-server, from which `kubectl top` and autoscalers read CPU and memory."""
    kube.apply(place, MANIFESTS / "metrics.yaml")
    names = ("kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig")
    argv = ["metrics-server", *(f"--{name}={place.kubeconfig}" for name in names)]
    argv += [f"--bind-address={NODE}", "--secure-port=4443"]
    argv += [f"--cert-dir={place.folder('metrics')}"]
    argv += ["--kubelet-insecure-tls", "--kubelet-preferred-address-types=InternalIP"]
    argv += ["--kubelet-use-node-status-port", "--metric-resolution=10s", "--kubelet-request-timeout=5s"]
    process.start(place, "metrics-server", argv)
    nodes = ("get", "--raw", "/apis/metrics.k8s.io/v1beta1/nodes")
    process.wait(place, "metrics-server", lambda: kube.kubectl(place, *nodes), seconds=90)


def start_storage(place: Place, count: int = VOLUMES) -> None:
    """Create the default StorageClass, and `count` volumes to which claims are bound.

    A volume is a folder on the node; several pods may write to it.
    """
    kube.apply(place, MANIFESTS / "storage.yaml")
    spec = {
        "storageClassName": "local",
        "capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteMany", "ReadWriteOnce"],
        "persistentVolumeReclaimPolicy": "Retain",
    }
    volumes = []
    for number in range(count):
        folder = place.folder(f"volumes/{number:03d}")
        os.chown(folder, STORAGE_OWNER, STORAGE_OWNER)
        volume = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": folder.name}}
        volumes.append(volume | {"spec": spec | {"hostPath": {"path": str(folder), "type": "Directory"}}})
    kube.apply_objects(place, volumes)
