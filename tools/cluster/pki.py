"""Makes the keys, certificates and kubeconfigs of a cluster, at each start and valid for a year."""

import base64
import datetime as dt
import ipaddress
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from place import API_PORT, API_SERVICE, NODE, NODE_NAME, Place, write, write_json

API_NAMES = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"]
API_NAMES += ["kubernetes.default.svc.cluster.local", "127.0.0.1", NODE, API_SERVICE]
# {kubeconfig: (common name, group)}. Kubernetes grants its own programs their rights by these names.
USERS = {
    "admin": ("admin", "system:masters"),
    "controllers": ("system:kube-controller-manager", None),
    "scheduler": ("system:kube-scheduler", None),
    "kubelet": (f"system:node:{NODE_NAME}", "system:nodes"),
    "proxy": ("system:kube-proxy", None),
}


class Authority(NamedTuple):
    """A key and its certificate; those of an authority sign other certificates."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate


def _name(common: str, group: str | None = None) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, common)]
    return x509.Name(parts + ([x509.NameAttribute(NameOID.ORGANIZATION_NAME, group)] if group else []))


def _general(word: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(word))
    except ValueError:
        return x509.DNSName(word)


def issue(
    folder: Path, name: str, subject: x509.Name, signer: Authority | None = None, served: Sequence[str] = ()
) -> Authority:
    """Make a key and a certificate, and write NAME.key and NAME.crt.

    The certificate is for servers and clients, and valid for the names and addresses in `served`. Without a
    signer it is an authority's own.
    """
    key, now = ec.generate_private_key(ec.SECP256R1()), dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signer.certificate.subject if signer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=365))
    )
    if signer:
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        builder = builder.add_extension(usage, critical=False)
    else:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    if served:
        names = x509.SubjectAlternativeName([_general(word) for word in served])
        builder = builder.add_extension(names, critical=False)
    certificate = builder.sign(signer.key if signer else key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    write(folder / f"{name}.key", private.decode())
    write(folder / f"{name}.crt", certificate.public_bytes(pem).decode())
    return Authority(key, certificate)


def kubeconfig(folder: Path, user: str) -> dict[str, object]:
    """Return a kubeconfig for one of USERS, which contains the certificates."""

    def data(name: str) -> str:
        return base64.b64encode((folder / name).read_bytes()).decode()

    server = {"server": f"https://{NODE}:{API_PORT}", "certificate-authority-data": data("ca.crt")}
    client = {"client-certificate-data": data(f"{user}.crt"), "client-key-data": data(f"{user}.key")}
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
    ca, front = (issue(folder, name, _name(name)) for name in ("ca", "front-proxy-ca"))
    issue(folder, "apiserver", _name("kube-apiserver"), ca, API_NAMES)
    issue(folder, "front-proxy", _name("front-proxy-client"), front)
    issue(folder, "service-account", _name("service-account"), ca)  # this key signs the tokens of pods
    for user, (common, group) in USERS.items():
        issue(folder, user, _name(common, group), ca, [NODE_NAME, NODE] if user == "kubelet" else [])
        write_json(folder / f"{user}.kubeconfig", kubeconfig(folder, user))
    write_json(place.kubeconfig, kubeconfig(folder, "admin"))
