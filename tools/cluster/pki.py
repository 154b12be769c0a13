"""Makes the keys, certificates and kubeconfigs of a cluster, at each start and valid for a year."""

from collections.abc import Sequence
from pathlib import Path

from place import API_PORT, API_SERVICE, NODE, NODE_NAME, Place, output

SERVICE = "kubernetes.default.svc"
NAMES = ("localhost", "kubernetes", "kubernetes.default", SERVICE, f"{SERVICE}.cluster.local")
API_NAMES = [*(f"DNS:{name}" for name in NAMES), *(f"IP:{at}" for at in ("127.0.0.1", NODE, API_SERVICE))]
# {kubeconfig: its user, whom Kubernetes grants rights by name and group}
USERS = {
    "admin": "/CN=admin/O=system:masters",
    "controllers": "/CN=system:kube-controller-manager",
    "scheduler": "/CN=system:kube-scheduler",
    "kubelet": f"/CN=system:node:{NODE_NAME}/O=system:nodes",
    "proxy": "/CN=system:kube-proxy",
}


def issue(folder: Path, name: str, subject: str, signer: str = "", served: Sequence[str] = ()) -> None:
    """Make a key and a certificate, NAME.key and NAME.crt; without a signer it is an authority's own.

    The certificate is for servers and clients, and valid for the names and addresses in `served`.
    """
    command: list[str | Path] = ["openssl", "req", "-x509", "-days", "365", "-subj", subject]
    command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc"]
    command += ["-addext", f"basicConstraints=critical,CA:{'FALSE' if signer else 'TRUE'}"]
    if signer:
        command += ["-CA", folder / f"{signer}.crt", "-CAkey", folder / f"{signer}.key"]
        command += ["-addext", "extendedKeyUsage=serverAuth,clientAuth"]
    if served:
        command += ["-addext", f"subjectAltName={','.join(served)}"]
    output(*command, "-keyout", folder / f"{name}.key", "-out", folder / f"{name}.crt")


def kubeconfig(folder: Path, user: str) -> dict[str, object]:
    """Return a kubeconfig for one of USERS, which names the files of the certificates."""
    server = {"server": f"https://{NODE}:{API_PORT}", "certificate-authority": f"{folder}/ca.crt"}
    client = {"client-certificate": f"{folder}/{user}.crt", "client-key": f"{folder}/{user}.key"}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "loop", "cluster": server}],
        "users": [{"name": user, "user": client}],
        "contexts": [{"name": "loop", "context": {"cluster": "loop", "user": user}}],
        "current-context": "loop",
    }


def start(place: Place) -> None:
    """Make all keys and certificates below pki/, and the administrator's kubeconfig."""
    folder = place.folder("pki")
    for name in ("ca", "front-proxy-ca"):
        issue(folder, name, f"/CN={name}")
    issue(folder, "apiserver", "/CN=kube-apiserver", "ca", API_NAMES)
    issue(folder, "front-proxy", "/CN=front-proxy-client", "front-proxy-ca")
    issue(folder, "service-account", "/CN=service-account", "ca")  # this key signs the tokens of pods
    for user, subject in USERS.items():
        served = (f"DNS:{NODE_NAME}", f"IP:{NODE}") if user == "kubelet" else ()
        issue(folder, user, subject, "ca", served)
        place.file(f"pki/{user}.kubeconfig", kubeconfig(folder, user))
    place.file(place.kubeconfig.name, kubeconfig(folder, "admin"))
