"""The cluster of the e2e tests: the one that KUBECONFIG names, or one that tools/cluster starts here."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from standin import ROOT

TOOL = ROOT / "tools" / "cluster"
POLL = 0.1  # seconds between two attempts
# The parts that a test may kill: programs of the node that tools/cluster starts, or pods of another cluster.
PARTS = {
    "Argo CD": (
        "argocd-application-controller",
        "argocd",
        "app.kubernetes.io/name=argocd-application-controller",
    ),
    "Contour": ("contour", "projectcontour", "app=contour"),
    "Prometheus": ("prometheus", "monitoring", "app.kubernetes.io/name=prometheus"),
}


@dataclass(frozen=True)
class Facts:
    """Where the parts of a cluster are; the fields of `tools/cluster status --json`."""

    kubeconfig: str
    gateway: str
    prometheus: str
    hooks: list[str]  # URLs where Argo CD receives webhooks
    registry: str
    host: str  # this machine's address as the cluster sees it
    webhook_secret: str

    @classmethod
    def from_environment(cls) -> "Facts":
        """Read the facts of a team's own cluster from the variables that docs/cluster.md lists."""
        env = os.environ
        return cls(
            kubeconfig=env["KUBECONFIG"],
            gateway=env["GATEWAY_URL"],
            prometheus=env["PROMETHEUS_URL"],
            hooks=[f"{url}/api/webhook" for url in env["ARGOCD_URL"].split(",")],
            registry=env["REGISTRY"],
            host=env["HOST_ADDRESS"],
            webhook_secret=env["WEBHOOK_SECRET"],
        )


class Cluster:
    """Reads a cluster through `kubectl proxy`, which is fast, and changes it by kubectl."""

    def __init__(self, facts: Facts, *, own: bool) -> None:
        self.facts, self.own = facts, own
        self.program = _kubectl(facts)
        command = [self.program, "proxy", "--port=0", "--address=127.0.0.1"]
        self._proxy = subprocess.Popen(command, env=self._environment(), stdout=subprocess.PIPE, text=True)
        assert self._proxy.stdout
        port = self._proxy.stdout.readline().strip().rpartition(":")[2]
        self._api = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20, trust_env=False)

    def close(self) -> None:
        """Stop the proxy."""
        self._api.close()
        self._proxy.terminate()
        self._proxy.wait(timeout=10)

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "KUBECONFIG": self.facts.kubeconfig}

    def kubectl(self, *args: str, stdin: str | None = None, codes: tuple[int, ...] = (0,)) -> str:
        """Run kubectl and return its output. Fail the test if the exit status is not one of `codes`."""
        done = self._invoke(*args, stdin=stdin)
        assert done.returncode in codes, (
            f"kubectl {' '.join(args)}: {done.returncode}\n{done.stdout}{done.stderr}"
        )
        return done.stdout

    def apply(self, manifests: str) -> None:
        """Apply manifests that a cluster's operator would apply; Argo CD applies all others."""
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=manifests)

    def refused(self, manifest: str) -> str:
        """Return why the API server would refuse an object, empty if it would accept it. Creates nothing."""
        done = self._invoke("create", "--dry-run=server", "-f", "-", stdin=manifest)
        return done.stderr.strip() if done.returncode else ""

    def _invoke(self, *args: str, stdin: str | None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.program, *args],
            input=stdin,
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=180,
        )

    def get(self, path: str) -> dict[str, Any] | None:
        """Return an object or a list by its API path, or None if it does not exist."""
        answer = self._api.get(path)
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        return dict(answer.raise_for_status().json())

    def items(self, path: str, **query: str) -> list[dict[str, Any]]:
        """Return the objects of a list."""
        return list(self._api.get(path, params=query).raise_for_status().json()["items"])

    def ask(self, query: str) -> list[dict[str, Any]]:
        """Return Prometheus' answer to an instant query."""
        url = f"{self.facts.prometheus}/api/v1/query"
        found = httpx.get(url, params={"query": query}, timeout=10, trust_env=False)
        return list(found.raise_for_status().json()["data"]["result"])

    def kill(self, part: str) -> None:
        """Kill one of PARTS. On the node of tools/cluster only `restore` starts it again."""
        program, namespace, label = PARTS[part]
        if self.own:
            os.kill(json.loads(self._record(program).read_text())["pid"], signal.SIGKILL)
            return
        options = ("--grace-period=0", "--force", "--wait=false")
        self.kubectl("delete", "pod", f"--namespace={namespace}", f"--selector={label}", *options)

    def restore(self, part: str) -> None:
        """Start a killed part again. In any other cluster Kubernetes does that by itself."""
        if self.own:
            tool("restart", PARTS[part][0])

    def _record(self, program: str) -> Path:
        return Path(self.facts.kubeconfig).parent / "processes" / f"{program}.json"


def until(found: Callable[[], Any], what: str | Callable[[], object], seconds: float = 60) -> Any:
    """Call `found` until its answer is not empty, and return the answer; fail with `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (answer := found()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s: {what() if callable(what) else what}")
        time.sleep(POLL)
    return answer


def tool(*args: str) -> str:
    """Run `tools/cluster` and return its output."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, str(TOOL), *args], env=environment, stdout=subprocess.PIPE, text=True, check=False
    )
    assert done.returncode == 0, f"tools/cluster {' '.join(args)} ended with {done.returncode}"
    return done.stdout


@contextmanager
def running() -> Iterator[Cluster]:
    """Yield the cluster that the environment names, or start one; stop it only if it did not run before."""
    if "GATEWAY_URL" in os.environ:
        cluster, down = Cluster(Facts.from_environment(), own=False), False
    else:
        up = subprocess.run([sys.executable, TOOL, "status", "--json"], capture_output=True, check=False)
        down = up.returncode != 0
        tool("up")
        facts = json.loads(tool("status", "--json"))
        cluster = Cluster(Facts(**{name: facts[name] for name in Facts.__dataclass_fields__}), own=True)
    try:
        yield cluster
    finally:
        cluster.close()
        if down and "LOOP_E2E_KEEP" not in os.environ:
            tool("down")


def secret_of(
    name: str, namespace: str, data: dict[str, str], labels: dict[str, str] | None = None
) -> dict[str, object]:
    metadata = {"name": name, "namespace": namespace, "labels": labels or {}}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data}


def settings_of(name: str, namespace: str, data: dict[str, str]) -> dict[str, object]:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def namespace_of(name: str) -> dict[str, object]:
    """Return a Namespace without labels, because Argo CD adds them."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def _kubectl(facts: Facts) -> str:
    """Return the kubectl that tools/cluster has built, or else the one on PATH."""
    built = Path(facts.kubeconfig).parent / "programs" / "kubectl"
    found = str(built) if built.is_file() else shutil.which("kubectl")
    assert found, "there is no kubectl on PATH"
    return found
