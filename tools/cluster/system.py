"""Runs the services that pods expect in a cluster: DNS, resource metrics and storage."""

import os

import kube
import process
from place import DNS, NODE, STORAGE_OWNER, Place, write

METRICS_PORT = 4443
VOLUMES = 24

Port = tuple[str, str, int, int]  # name, protocol, the Service's port, the process's port
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


def service(name: str, ports: list[Port], address: str | None = None) -> list[dict[str, object]]:
    """Return a Service in kube-system, maybe at a fixed address, and its endpoint, a process on the node."""
    fixed = {"clusterIP": address} if address else {}
    meta = {"name": name, "namespace": "kube-system"}
    inner = [{"name": word, "protocol": kind, "port": to} for word, kind, _, to in ports]
    outer = [
        {**one, "port": port, "targetPort": to} for one, (_, _, port, to) in zip(inner, ports, strict=True)
    ]
    # k8s-app is the label of this Service's pods in other clusters, by which NetworkPolicies select them.
    labels = {"kubernetes.io/service-name": name, "k8s-app": name}
    return [
        {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {**fixed, "ports": outer}},
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {**meta, "name": f"{name}-node", "labels": labels},
            "addressType": "IPv4",
            "ports": inner,
            "endpoints": [{"addresses": [NODE], "conditions": {"ready": True}}],
        },
    ]


def start_dns(place: Place) -> None:
    """Start CoreDNS on the node's port 53; pods reach it at the usual cluster address."""
    path = place.run / "Corefile"
    write(path, COREFILE % place.kubeconfig)
    kube.apply_objects(place, service("kube-dns", [("dns", "UDP", 53, 53), ("dns-tcp", "TCP", 53, 53)], DNS))
    process.start(place, "coredns", [place.program("coredns"), "-conf", path])
    process.wait(place, "coredns", lambda: process.answers("http://127.0.0.1:8053/ready"))


def start_metrics(place: Place) -> None:
    """Start metrics-server, from which `kubectl top` and autoscalers read CPU and memory."""
    api = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": "v1beta1.metrics.k8s.io"},
        "spec": {
            "service": {"name": "metrics-server", "namespace": "kube-system", "port": 443},
            "group": "metrics.k8s.io",
            "version": "v1beta1",
            "insecureSkipTLSVerify": True,
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
        },
    }
    kube.apply_objects(place, [*service("metrics-server", [("https", "TCP", 443, METRICS_PORT)]), api])
    names = ("kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig")
    argv = [place.program("metrics-server"), *(f"--{name}={place.kubeconfig}" for name in names)]
    argv += [f"--bind-address={NODE}", f"--secure-port={METRICS_PORT}"]
    argv += [f"--cert-dir={place.folder('metrics')}"]
    argv += ["--kubelet-insecure-tls", "--kubelet-preferred-address-types=InternalIP"]
    argv += ["--kubelet-use-node-status-port", "--metric-resolution=10s", "--kubelet-request-timeout=5s"]
    process.start(place, "metrics-server", argv)
    nodes = ("get", "--raw", "/apis/metrics.k8s.io/v1beta1/nodes")
    process.wait(place, "metrics-server", lambda: kube.succeeds(place, *nodes), seconds=90)


def volume(name: str, path: str) -> dict[str, object]:
    """Return a PersistentVolume that is a folder on the node; several pods may write to it."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "storageClassName": "local",
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteMany", "ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": path, "type": "Directory"},
        },
    }


def start_storage(place: Place, count: int = VOLUMES) -> None:
    """Create the default StorageClass, and `count` volumes to which claims are bound."""
    storage = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": "local", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "Immediate",
    }
    made = []
    for number in range(count):
        folder = place.folder(f"volumes/{number:03d}")
        os.chown(folder, STORAGE_OWNER, STORAGE_OWNER)
        made.append(volume(folder.name, str(folder)))
    kube.apply_objects(place, [storage, *made])
