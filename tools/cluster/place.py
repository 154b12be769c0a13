"""Names, addresses and folders: constants, since a machine has at most one such cluster."""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

NAME = "loop-cluster"  # of the network namespace and of the cgroup
NETWORK = Path("/run/netns") / NAME
LINK = Path("/run") / NAME  # leads to the state folder, whatever LOOP_CACHE it was started with
NODE_NAME = "node0"

NODE = "10.99.0.1"  # the node's address, on the bridge inside; people and CI reach the cluster here
HOST = "10.99.1.1"  # the host's end of the veth pair; the cluster reaches the host only here
INNER = "10.99.1.2"
PODS = "10.244.0.0/16"
SERVICES = "10.96.0.0/16"
API_SERVICE = "10.96.0.1"
DNS = "10.96.0.10"

API_PORT = 6443
GATEWAY_PORT = 8080
REGISTRY_PORT = 5000
PROMETHEUS_PORT = 9090
PUSHGATEWAY_PORT = 9091
ALERTMANAGER_PORT = 9093
ARGOCD_PORT = 8081
REGISTRY = f"{NODE}:{REGISTRY_PORT}"
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
STORAGE_OWNER = 1034  # uid and gid of the bento's user


class ClusterError(Exception):
    """What is wrong, what should be, and what to do about it."""


def cache() -> Path:
    """The project's cache outside the clone, as src/loop/core/paths.py has it."""
    base = os.environ.get("LOOP_CACHE")
    xdg = os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))
    return (Path(base) if base else Path(xdg) / "loop").resolve()


@dataclass(frozen=True)
class Place:
    """Where one cluster keeps its things; nothing here makes a folder but `folder`."""

    run: Path  # all that lives as long as the cluster runs
    registry: Path  # the registry's images: they outlive the cluster

    @property
    def programs(self) -> Path:
        """The programs that this cluster was started with: a link into the cache."""
        return self.run / "programs"

    @property
    def link(self) -> Path:
        """The state folder by a short path: a unix socket's name holds at most 108 bytes."""
        return LINK

    @property
    def crds(self) -> Path:
        """What the Go modules bring beside programs: crds/<argocd|gateway|prometheus|kwok>/*.yaml."""
        return self.programs / "crds"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's; good inside and from the host."""
        return self.run / "admin.kubeconfig"

    @property
    def pki(self) -> Path:
        return self.run / "pki"

    @property
    def fast(self) -> Path:
        """A tmpfs, for what is thrown away with the cluster."""
        return self.run / "fast"

    @property
    def mounts(self) -> Path:
        """Names the mount namespace that every program is started in."""
        return self.fast / "mounts"

    @property
    def records(self) -> Path:
        return self.run / "processes"

    @property
    def ready(self) -> Path:
        """Written when all parts are ready: what `status --json` prints."""
        return self.run / "ready.json"

    @property
    def webhook_secret(self) -> str:
        """What signs the webhooks to Argo CD; made by `up`."""
        return (self.run / "webhook-secret").read_text().strip()

    def log(self, name: str) -> Path:
        return self.run / "logs" / f"{name}.log"

    def folder(self, name: str) -> Path:
        """A folder of a part's own under `run`, made when it is not there."""
        path = self.run / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def program(self, name: str) -> str:
        """A program by name: one that was built here, else the machine's own."""
        built = self.programs / name
        found = (
            str(built)
            if built.is_file()
            else shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        )
        if not found:
            raise ClusterError(f"no program {name}: neither in {self.programs} nor in {SYSTEM_PATH}")
        return found

    def facts(self) -> dict[str, str]:
        """What others need to use the cluster."""
        return {
            "kubeconfig": str(self.kubeconfig),
            "gateway": f"http://{NODE}:{GATEWAY_PORT}",
            "prometheus": f"http://{NODE}:{PROMETHEUS_PORT}",
            "alertmanager": f"http://{NODE}:{ALERTMANAGER_PORT}",
            "argocd": f"http://{NODE}:{ARGOCD_PORT}",
            "registry": REGISTRY,
            "host": HOST,
            "webhook_secret": self.webhook_secret,
        }


def place() -> Place:
    """The place of the cluster that runs, else where one of this cache will be."""
    base = LINK.resolve().parent if LINK.is_symlink() else cache() / "cluster"
    return Place(run=base / "run", registry=base / "registry")


def write(path: Path, text: str, mode: int = 0o600) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.touch(mode)
    aside.write_text(text)
    aside.replace(path)


def write_json(path: Path, value: object) -> None:
    """Write JSON, whole or not at all."""
    write(path, json.dumps(value, indent=2) + "\n")
