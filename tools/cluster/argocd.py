"""Runs Argo CD as programs on the node.

Argo CD's API answers anyone who reaches the node, without password or encryption, but allows no changes.
GitHub's webhooks must be signed. This setup is acceptable only on a single machine.
"""

import secrets
from pathlib import Path

import process
from kube import apply, apply_objects, define
from place import ARGOCD_PORT, LINK, NODE, Place, pinned
from process import environment, wait

MANIFEST = Path(__file__).with_name("manifests") / "argocd.yaml"
SETS_PORT = 8082  # the ApplicationSet controller receives webhooks at this port
# A Git server must send push events to these URLs: for Applications and for ApplicationSets.
HOOKS = [f"http://{NODE}:{port}/api/webhook" for port in (ARGOCD_PORT, SETS_PORT)]
REDIS, REPO = "127.0.0.1:6379", "127.0.0.1:8181"
PORTS = {  # of each program's metrics
    "repo-server": 8184,
    "application-controller": 8182,
    "applicationset-controller": 8185,
    "server": 8183,
    "notifications": 8187,
}
METRICS = {name: f"127.0.0.1:{port}" for name, port in PORTS.items()}


def start(place: Place) -> None:
    """Start Argo CD and wait until all its programs are healthy. The API server must be running."""
    host, port = REDIS.split(":")
    redis = ["redis-server", "--bind", host, "--port", port, "--dir", place.folder("redis")]
    process.start(place, "redis", [*redis, "--save", "", "--appendonly", "no"])
    define(place, "argocd")
    apply(place, MANIFEST)
    labels = {"app.kubernetes.io/part-of": "argocd", "app.kubernetes.io/name": "argocd-secret"}
    meta = {"name": "argocd-secret", "namespace": "argocd", "labels": labels}
    # A new key that signs sessions, and the secret that signs webhooks
    keys = {"server.secretkey": secrets.token_hex(32), "webhook.github.secret": place.webhook_secret}
    apply_objects(place, [{"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": keys}])
    env = _environment(place)
    for name, options in _programs(place).items():
        binary = {"ARGOCD_BINARY_NAME": f"argocd-{name}"}
        process.start(place, f"argocd-{name}", ["argocd", *options], env | binary)
    for name, address in METRICS.items():
        wait(place, f"argocd-{name}", f"http://{address}/metrics")
    wait(place, "argocd-server", f"http://{NODE}:{ARGOCD_PORT}/healthz")


def _programs(place: Place) -> dict[str, list[str]]:
    """Return the options of each Argo CD program, in the order in which they are started."""
    cluster = [f"--kubeconfig={place.kubeconfig}", "--namespace=argocd"]
    cached = f"--redis={REDIS}"
    repo = [f"--repo-server={REPO}", "--repo-server-plaintext"]
    port = {name: f"--metrics-port={port}" for name, port in PORTS.items()}
    host, repo_port = REPO.split(":")
    return {
        "repo-server": [
            f"--address={host}",
            f"--port={repo_port}",
            f"--metrics-address={host}",
            port["repo-server"],
            "--disable-tls",
            cached,
        ],
        "application-controller": [*cluster, cached, *repo, port["application-controller"]],
        "applicationset-controller": [
            *cluster,
            f"--argocd-repo-server={REPO}",
            "--repo-server-plaintext",
            f"--metrics-addr={METRICS['applicationset-controller']}",
            "--probe-addr=0",  # the probe address is off, because it serves no health page
            f"--webhook-addr={NODE}:{SETS_PORT}",
        ],
        "server": [
            *cluster,
            cached,
            *repo,
            "--address=0.0.0.0",  # the API server also connects to itself on the loopback
            f"--port={ARGOCD_PORT}",
            port["server"],
            "--insecure",  # serve plain HTTP
        ],
        "notifications": [
            *cluster,
            f"--argocd-repo-server={REPO}",
            "--argocd-repo-server-plaintext",
            port["notifications"],
        ],
    }


def _environment(place: Place) -> dict[str, str]:
    """Return the environment of Argo CD's programs, with folders of this cluster only.

    Two installations of Argo CD that share the socket for Git passwords would disturb each other.
    """
    folder = LINK / "argocd"
    for name in ("tls", "ssh", "gpg/source", "gpg/keys", "plugins"):
        place.folder(f"argocd/{name}")
    (place.run / "argocd/ssh/ssh_known_hosts").touch()
    return {
        "ARGOCD_FAKE_IN_CLUSTER": "true",
        "ARGOCD_GPG_ENABLED": "false",
        "ARGOCD_TLS_DATA_PATH": f"{folder}/tls",
        "ARGOCD_SSH_DATA_PATH": f"{folder}/ssh",
        "ARGOCD_GPG_DATA_PATH": f"{folder}/gpg/source",
        "ARGOCD_GNUPGHOME": f"{folder}/gpg/keys",
        "ARGOCD_PLUGINSOCKFILEPATH": f"{folder}/plugins",
        "ARGOCD_ASK_PASS_SOCK": f"{folder}/ask-pass.sock",
        # Without EMAIL, Git looks up this host's domain for its reflog. The cluster's network has no DNS, so
        # each fetch and checkout would take 6 s if /etc/hosts lacks the host's name.
        "EMAIL": "argocd@localhost",
        "PATH": f"{pinned()}:{environment(place)['PATH']}",  # for kustomize
    }
