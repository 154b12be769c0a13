"""Names, addresses and folders of the cluster: constants, because a machine has at most one cluster."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click

ROOT = Path(__file__).resolve().parents[2]  # the clone
sys.path.append(str(ROOT / "src"))  # these programs are also started without PYTHONPATH

from loop.core import files, paths  # noqa: E402

NAME = "loop-cluster"  # the name of the cluster's network namespace and of its cgroup
NETWORK = Path("/run/netns") / NAME
# A link to the state folder of the running cluster, whichever LOOP_CACHE it uses. Unix sockets are named by
# this link, because their paths may have at most 108 bytes.
LINK = Path("/run") / NAME
NODE_NAME = "node0"

NODE = "10.99.0.1"  # the node's address on its bridge, at which people and CI reach the cluster
HOST = "10.99.1.1"  # the host's end of the veth pair, the only address at which the cluster reaches the host
INNER = "10.99.1.2"
PODS = "10.244.0.0/16"
SERVICES = "10.96.0.0/16"
API_SERVICE = "10.96.0.1"
DNS = "10.96.0.10"

API_PORT = 6443
GATEWAY_PORT = 8080
PROMETHEUS_PORT = 9090
PUSHGATEWAY_PORT = 9091
ALERTMANAGER_PORT = 9093
ARGOCD_PORT = 8081
REGISTRY = f"{NODE}:5000"
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
STORAGE_OWNER = 1034  # uid and gid of the user in a bento's image


class ClusterError(click.ClickException):
    """An error of the cluster; its message says what was found, what was expected, and how to fix it."""

    exit_code = 2


def output(*words: str | Path, stdin: str | None = None, **options: Any) -> str:
    """Run a program and return its output; ClusterError with the program's own message if it fails."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    done = subprocess.run(words, input=stdin, text=True, check=False, **pipes)
    if done.returncode:
        said = (done.stderr or done.stdout).strip() or "its messages are above"
        raise ClusterError(f"{' '.join(map(str, words))}: {said}")
    return done.stdout


def pinned() -> Path:
    """Return the folder of the Go programs that tools/go.mod pins; they are built first if missing."""
    return Path(output(ROOT / "tools" / "programs", stderr=None).strip())  # its progress is shown


class Place:
    """The paths of one cluster. Only the methods `folder` and `file` create any."""

    def __init__(self, run: Path, registry: Path) -> None:
        self.run = run  # the state folder, which lasts as long as the cluster runs
        self.registry = registry  # the registry's images, which are kept after the cluster has ended
        self.programs = run / "programs"  # those that this cluster was started with, a link into the cache
        # from the Go modules: crds/<argocd|gateway|prometheus|kwok>/*.yaml
        self.crds = self.programs / "crds"
        # The administrator's kubeconfig, which works inside the cluster's network and on this host
        self.kubeconfig = run / "admin.kubeconfig"
        self.pki = run / "pki"
        self.fast = run / "fast"  # a folder in memory, for data that is thrown away with the cluster
        self.mounts = self.fast / "mounts"  # names the mount namespace in which every program is started
        self.records = run / "processes"
        self.ready = run / "ready.json"  # `up` writes it when all parts are ready; `status --json` prints it

    @property
    def webhook_secret(self) -> str:
        """The secret that signs webhooks to Argo CD; `up` makes it."""
        return (self.run / "webhook-secret").read_text().strip()

    def log(self, name: str) -> Path:
        return self.run / "logs" / f"{name}.log"

    def folder(self, name: str) -> Path:
        """Return a part's own folder below `run`; it is created if it is missing."""
        path = self.run / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def file(self, name: str, content: object) -> Path:
        """Write a file below `run` atomically, as JSON unless it is text, and return its path."""
        path = self.run / name
        files.write_text(path, content if isinstance(content, str) else json.dumps(content, indent=2))
        return path


def place() -> Place:
    """Return the paths of the running cluster, or else of the cluster that this cache would have."""
    base = LINK.resolve().parent if LINK.is_symlink() else paths.cache().resolve() / "cluster"
    return Place(run=base / "run", registry=base / "registry")
