"""Names, addresses and folders of the cluster: constants, because a machine has at most one cluster."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import click

ROOT = Path(__file__).resolve().parents[2]  # the clone
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


def cache() -> Path:
    """Return the project's cache folder outside the clone, by the same rule as loop.core.paths."""
    base = os.environ.get("LOOP_CACHE")
    xdg = os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))
    return (Path(base) if base else Path(xdg) / "loop").resolve()


def output(*words: str | Path, stdin: str | None = None, **options: Any) -> str:
    """Run a program and return its output; ClusterError with the program's own message if it fails."""
    done = subprocess.run(words, input=stdin, capture_output=True, text=True, check=False, **options)
    if done.returncode:
        raise ClusterError(f"{' '.join(map(str, words))}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def pinned() -> Path:
    """Return the folder of the Go programs that tools/go.mod pins; they are built first if missing."""
    done = subprocess.run([ROOT / "tools" / "programs"], check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise ClusterError("tools/programs failed with the message above: fix that, then run this again")
    return Path(done.stdout.strip())


class Place:
    """The paths of one cluster. Only the method `folder` creates folders."""

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

    def program(self, name: str) -> str:
        """Return a program's path: the one built for the cluster, or else the machine's own."""
        built = self.programs / name
        own = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        found = str(built) if built.is_file() else own
        if not found:
            raise ClusterError(f"no program {name}: neither in {self.programs} nor in {SYSTEM_PATH}")
        return found


def place() -> Place:
    """Return the paths of the running cluster, or else of the cluster that this cache would have."""
    base = LINK.resolve().parent if LINK.is_symlink() else cache() / "cluster"
    return Place(run=base / "run", registry=base / "registry")


def write(path: Path, text: str, mode: int = 0o600) -> None:
    """Write a file atomically, so that a reader never sees a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.touch(mode)
    aside.write_text(text)
    aside.replace(path)


def write_json(path: Path, value: object) -> None:
    """Write a JSON file atomically, so that a reader never sees a part of it."""
    write(path, json.dumps(value, indent=2) + "\n")
