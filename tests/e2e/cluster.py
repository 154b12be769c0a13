"""The cluster that is played on: the one that KUBECONFIG names, or one of this machine's own."""

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
LOOK = 0.1  # seconds between two looks
# What may be killed: the program of tools/cluster's node, and the pods of any other cluster.
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
    """What is to be known of a cluster; `tools/cluster status --json` says the same."""

    kubeconfig: str
    gateway: str
    prometheus: str
    hooks: list[str]  # where Argo CD takes webhooks
    registry: str
    host: str  # this machine's address as the cluster sees it
    webhook_secret: str

    @classmethod
    def of_environment(cls) -> "Facts":
        """Of a cluster that is not ours: docs/cluster.md."""
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
    """One cluster: asked by a `kubectl proxy`, changed by kubectl."""

    def __init__(self, facts: Facts, *, own: bool) -> None:
        self.facts, self.own = facts, own
        self.program = _kubectl(facts)
        command = [self.program, "proxy", "--port=0", "--address=127.0.0.1"]
        self._proxy = subprocess.Popen(command, env=self._environment(), stdout=subprocess.PIPE, text=True)
        assert self._proxy.stdout
        port = self._proxy.stdout.readline().strip().rpartition(":")[2]
        self._api = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20, trust_env=False)

    def close(self) -> None:
        """End the proxy."""
        self._api.close()
        self._proxy.terminate()
        self._proxy.wait(timeout=10)

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "KUBECONFIG": self.facts.kubeconfig}

    def kubectl(self, *args: str, stdin: str | None = None, codes: tuple[int, ...] = (0,)) -> str:
        """Run kubectl; its output. Fails the test where it ends otherwise than with `codes`."""
        done = self._asked(*args, stdin=stdin)
        assert done.returncode in codes, (
            f"kubectl {' '.join(args)}: {done.returncode}\n{done.stdout}{done.stderr}"
        )
        return done.stdout

    def apply(self, manifests: str) -> None:
        """Apply what a cluster's operator brings; not what Argo CD does."""
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=manifests)

    def refused(self, manifest: str) -> str:
        """The API server's reason for refusing an object; empty if it would take it. Creates nothing."""
        done = self._asked("create", "--dry-run=server", "-f", "-", stdin=manifest)
        return done.stderr.strip() if done.returncode else ""

    def _asked(self, *args: str, stdin: str | None) -> subprocess.CompletedProcess[str]:
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
        """An object or a list by its API path; None where there is none."""
        answer = self._api.get(path)
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        return dict(answer.raise_for_status().json())

    def items(self, path: str, **query: str) -> list[dict[str, Any]]:
        """The objects of a list."""
        return list(self._api.get(path, params=query).raise_for_status().json()["items"])

    def ask(self, query: str) -> list[dict[str, Any]]:
        """Prometheus' answer to an instant query."""
        url = f"{self.facts.prometheus}/api/v1/query"
        found = httpx.get(url, params={"query": query}, timeout=10, trust_env=False)
        return list(found.raise_for_status().json()["data"]["result"])

    def kill(self, part: str) -> None:
        """Kill one of PARTS at once; another cluster brings its pods back by itself, ours wants `restore`."""
        program, namespace, label = PARTS[part]
        if self.own:
            os.kill(json.loads(self._record(program).read_text())["pid"], signal.SIGKILL)
            return
        options = ("--grace-period=0", "--force", "--wait=false")
        self.kubectl("delete", "pod", f"--namespace={namespace}", f"--selector={label}", *options)

    def restore(self, part: str) -> None:
        """Start a part again that was killed."""
        if self.own:
            tool("restart", PARTS[part][0])

    def _record(self, program: str) -> Path:
        return Path(self.facts.kubeconfig).parent / "processes" / f"{program}.json"


def until(found: Callable[[], Any], what: str | Callable[[], object], seconds: float = 60) -> Any:
    """Wait for the first answer that is not empty; after `seconds` the test fails with `what`."""
    deadline = time.monotonic() + seconds
    while not (answer := found()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s: {what() if callable(what) else what}")
        time.sleep(LOOK)
    return answer


def tool(*args: str) -> str:
    """Run `tools/cluster`; its output."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, str(TOOL), *args], env=environment, stdout=subprocess.PIPE, text=True, check=False
    )
    assert done.returncode == 0, f"tools/cluster {' '.join(args)} ended with {done.returncode}"
    return done.stdout


@contextmanager
def running() -> Iterator[Cluster]:
    """The cluster of the environment, or one that is started; taken down where it was not there before."""
    if "GATEWAY_URL" in os.environ:
        cluster, down = Cluster(Facts.of_environment(), own=False), False
    else:
        up = subprocess.run([sys.executable, TOOL, "status", "--json"], capture_output=True, check=False)
        down = up.returncode != 0
        tool("up")
        told = json.loads(tool("status", "--json"))
        cluster = Cluster(Facts(**{name: told[name] for name in Facts.__dataclass_fields__}), own=True)
    try:
        yield cluster
    finally:
        cluster.close()
        if down and "LOOP_E2E_KEEP" not in os.environ:
            tool("down")


def secret_of(
    name: str, namespace: str, data: dict[str, str], labels: dict[str, str] | None = None
) -> dict[str, object]:
    """A Secret."""
    metadata = {"name": name, "namespace": namespace, "labels": labels or {}}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data}


def settings_of(name: str, namespace: str, data: dict[str, str]) -> dict[str, object]:
    """A ConfigMap."""
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def namespace_of(name: str) -> dict[str, object]:
    """A Namespace; Argo CD adds its labels."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def _kubectl(facts: Facts) -> str:
    """The one that our cluster was built with, else the machine's own."""
    built = Path(facts.kubeconfig).parent / "programs" / "kubectl"
    found = str(built) if built.is_file() else shutil.which("kubectl")
    assert found, "there is no kubectl on PATH"
    return found
