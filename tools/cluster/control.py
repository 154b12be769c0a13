"""Runs the control plane as processes on the node: etcd, the API server, the controllers, the scheduler."""

import kube
import process
from place import API_PORT, NODE, PODS, SERVICES, Place

ETCD = "http://127.0.0.1:2379"
PEER = "http://127.0.0.1:2380"


def start_etcd(place: Place) -> None:
    """Start etcd with its data in memory, because Debian's etcd 3.4 has no option to skip fsync."""
    data = place.fast / "etcd"
    argv = ["etcd", "--data-dir", data, "--logger=zap", "--log-level=warn"]
    argv += [f"--listen-client-urls={ETCD}", f"--advertise-client-urls={ETCD}"]
    argv += [f"--listen-peer-urls={PEER}", f"--initial-advertise-peer-urls={PEER}"]
    process.start(place, "etcd", [*argv, f"--initial-cluster=default={PEER}"], ready=f"{ETCD}/health")


def start_apiserver(place: Place) -> None:
    """Start the API server on the node's address, and wait until it is ready.

    It has the usual authorization, and API aggregation for metrics-server.
    """
    pki = place.pki
    command = [
        "kube-apiserver",
        f"--etcd-servers={ETCD}",
        f"--bind-address={NODE}",
        f"--advertise-address={NODE}",
        f"--secure-port={API_PORT}",
        f"--service-cluster-ip-range={SERVICES}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        f"--client-ca-file={pki}/ca.crt",
        f"--tls-cert-file={pki}/apiserver.crt",
        f"--tls-private-key-file={pki}/apiserver.key",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={pki}/service-account.crt",
        f"--service-account-signing-key-file={pki}/service-account.key",
        f"--kubelet-client-certificate={pki}/admin.crt",
        f"--kubelet-client-key={pki}/admin.key",
        "--kubelet-preferred-address-types=InternalIP",
        f"--requestheader-client-ca-file={pki}/front-proxy-ca.crt",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-username-headers=X-Remote-User",
        f"--proxy-client-cert-file={pki}/front-proxy.crt",
        f"--proxy-client-key-file={pki}/front-proxy.key",
        "--enable-aggregator-routing=true",
        # Debian's etcd is too old for streamed lists, and clients that request one would retry with growing
        # delays.
        "--feature-gates=WatchList=false",
        "--profiling=false",
    ]
    process.start(place, "apiserver", command, ready=f"https://{NODE}:{API_PORT}/readyz")


def _component(place: Place, user: str) -> list[str]:
    """Return the options of controller manager and scheduler. Each runs once, so no leader is elected."""
    config = place.pki / f"{user}.kubeconfig"
    names = ("kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig")
    flags = [f"--{name}={config}" for name in names]
    return [*flags, "--bind-address=127.0.0.1", "--leader-elect=false", "--profiling=false"]


def start_controllers(place: Place) -> None:
    """Start controllers and scheduler, and wait for the first ServiceAccount, which every pod needs."""
    pki = place.pki
    manager = ["kube-controller-manager", *_component(place, "controllers")]
    manager += ["--use-service-account-credentials=true", "--controllers=*"]
    manager += [f"--service-account-private-key-file={pki}/service-account.key"]
    manager += [f"--root-ca-file={pki}/ca.crt"]
    manager += [f"--cluster-signing-cert-file={pki}/ca.crt", f"--cluster-signing-key-file={pki}/ca.key"]
    manager += ["--allocate-node-cidrs=true", f"--cluster-cidr={PODS}"]
    manager += [f"--service-cluster-ip-range={SERVICES}", "--horizontal-pod-autoscaler-sync-period=5s"]
    process.start(place, "controllers", manager)
    process.start(place, "scheduler", ["kube-scheduler", *_component(place, "scheduler")])
    process.wait(place, "controllers", lambda: kube.kubectl(place, "get", "serviceaccount/default"))
