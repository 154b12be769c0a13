"""`make bench-gitops`: measures the cost of delivery for growing numbers of models, on the local cluster.

The benchmark makes a scratch repository with 1, 10 and 100 models in three environments from this
repository's kustomize/ and argocd/, and lets the cluster's Argo CD follow it. The pods are scheduled on fake
nodes. It measures rendering, the time from a commit to synced, and Argo CD's memory and CPU. The cluster must
be a new one, and `make cluster-down` removes what the benchmark put into it.
"""

import argparse
import json
import math
import shutil
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import psutil
from matplotlib.figure import Figure
from shared import AUTHOR, ROOT, Cluster, cpu_seconds, report, run, start, wait

from loop.core import edited, params, repository
from loop.core.errors import LoopError
from loop.core.files import read_json
from loop.core.git import Git
from loop.core.names import public
from loop.core.release_state import State, Track, files
from loop.delivery.render import build
from loop_demo.hub import Hub

PATTERN = public(next(iter(params.read(ROOT))))  # the model of which the benchmark's models are copies
COMMITS = 10  # commits to measure for each number of models; the median counts
SMALLEST = 1e-3  # smaller figures are raised to this value before their logarithm is taken
ENVIRONMENTS = ("dev", "staging", "production")
PROGRAMS = ("application-controller", "repo-server", "applicationset-controller", "server")
BUSY = (  # a PromQL query for the most work that Argo CD had left in the last three scrapes
    'max_over_time((sum(workqueue_depth{job="argocd-application-controller"})'
    ' + sum(workqueue_unfinished_work_seconds{job="argocd-application-controller"})'
    ' + sum(argocd_repo_pending_request_total{job="argocd-repo-server"}))[6s:2s])'
)
# Pods on fake nodes do not really run, so no image is pulled and no volume is mounted.
ON_FAKE_NODES = """\
apiVersion: kustomize.config.k8s.io/v1alpha1
kind: Component
patches:
  - target: {kind: Deployment}
    patch: |-
      apiVersion: apps/v1
      kind: Deployment
      metadata: {name: any}
      spec:
        template:
          spec:
            nodeSelector: {kwok.x-k8s.io/node: fake}
            tolerations: [{key: kwok.x-k8s.io/node, operator: Exists}]
"""


class Fleet:
    """The scratch repository: `grow` adds models, `release` gives a model a new image."""

    def __init__(self, tree: Path, hub: Hub) -> None:
        self.tree, self.git, self.models, self.releases = tree, Git(tree), 0, 0
        run("git", "clone", "--quiet", *AUTHOR, hub.clone_url, tree)
        for name in ("argocd", "kustomize"):
            shutil.copytree(ROOT / name, tree / name)
        for name in ("models", "overlays"):
            shutil.rmtree(tree / "kustomize" / name)
        repository.write(tree, replace(repository.read(tree), url=hub.url))
        (tree / "kustomize/components/fake").mkdir()
        (tree / "kustomize/components/fake/kustomization.yaml").write_text(ON_FAKE_NODES)
        self.commit("No model yet")
        self.push()

    def overlays(self) -> list[str]:
        """Return the path of every overlay in the scratch repository."""
        names = [_name(number) for number in range(self.models)]
        return [f"kustomize/overlays/{place}/{name}" for place in ENVIRONMENTS for name in names]

    def grow(self, models: int) -> str:
        """Add models until there are `models` of them, push, and return the commit."""
        for number in range(self.models, models):
            self._add(_name(number))
        self.models = models
        commit = self.commit(f"{models} models")
        self.push()
        return commit

    def release(self, environment: str, number: int) -> str:
        """Commit a new release of one model without pushing it, and return the commit."""
        self._write(environment, _name(number))
        return self.commit(f"Release to {environment}: {_name(number)}")

    def commit(self, message: str) -> str:
        self.git.run("add", "--all")
        self.git.run("commit", "--quiet", f"--message={message}")
        return self.git.head()

    def push(self) -> None:
        self.git.run("push", "--quiet", "origin", "HEAD:main")

    def _add(self, name: str) -> None:
        """Copy the pattern as a model of another name, with a release in each environment."""
        for folder in ("models", *(f"overlays/{environment}" for environment in ENVIRONMENTS)):
            made = self.tree / "kustomize" / folder / name
            shutil.copytree(ROOT / "kustomize" / folder / PATTERN, made)
            for path in filter(Path.is_file, made.rglob("*")):
                path.write_text(path.read_text().replace(PATTERN, name))
        for environment in ENVIRONMENTS:
            self._write(environment, name)
            overlay = self.tree / "kustomize/overlays" / environment / name
            with edited.rewriting(overlay / "kustomization.yaml") as document:
                wanted = [f"../../../components/{name}" for name in ("small", "fake")]
                document["components"] += [one for one in wanted if one not in document["components"]]

    def _write(self, environment: str, name: str) -> None:
        """Write a new release, of an image that does not exist, in the form that `loop release` writes."""
        self.releases += 1
        image, md5 = f"registry.example/bench@sha256:{self.releases:064x}", f"{self.releases:032x}"
        names = {"mlflow": "bench/1", "bento": "bench:1", "commit": f"{self.releases:040x}"}
        key = f"{self.releases:012x}"
        stable = Track(key=key, image=image, weight=100, model_md5=md5, data_md5=md5, **names)
        for path, text in files(State(stable=stable), environment, name).items():
            (self.tree / path).write_text(text)


def _name(number: int) -> str:
    return f"model-{number:03}"


class ArgoCD(Cluster):
    """The local cluster, with questions to its Argo CD."""

    def __init__(self) -> None:
        super().__init__()
        self.argocd = httpx.Client(base_url=self.facts["argocd"], timeout=30, trust_env=False)
        self.prometheus = httpx.Client(base_url=self.facts["prometheus"], timeout=30, trust_env=False)

    def follow(self, fleet: Fleet, hub: Hub) -> None:
        """Make Argo CD follow the scratch repository, by applying its token, project and ApplicationSet."""
        label = {"argocd.argoproj.io/secret-type": "repository"}
        meta = {"name": "bench", "namespace": "argocd", "labels": label}
        login = {"type": "git", "url": hub.url, "username": "bench", "password": hub.person.token}
        self.apply(json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": login}))
        self.apply(build(fleet.tree / "argocd"))

    def is_synced(self, name: str, commit: str) -> bool:
        """Return whether an Application exists and is synced to a commit."""
        answer = self.argocd.get(f"/api/v1/applications/{name}")
        return answer.is_success and synced(answer.json().get("status") or {}, commit)

    def count_synced(self) -> int:
        """Return the number of models' Applications that are synced."""
        fields = "items.metadata.name,items.status.sync.status,items.status.operationState.phase"
        answer = self.argocd.get("/api/v1/applications", params={"fields": fields}).raise_for_status()
        models = [app for app in answer.json().get("items") or [] if "-model-" in app["metadata"]["name"]]
        return sum(synced(app.get("status") or {}) for app in models)

    def settle(self) -> None:
        """Wait until Argo CD has no work left, in three of Prometheus' scrapes in a row."""

        def idle() -> bool:
            answer = self.prometheus.get("/api/v1/query", params={"query": BUSY}).raise_for_status()
            return all(float(row["value"][1]) == 0 for row in answer.json()["data"]["result"])

        wait("Argo CD is idle", idle, 900, every=0.5)

    def programs(self) -> dict[str, int]:
        """Return the process ids of Argo CD's programs."""
        records = Path(self.facts["kubeconfig"]).parent / "processes"
        return {name: read_json(records / f"argocd-{name}.json")["pid"] for name in PROGRAMS}

    def cpu(self) -> dict[str, float]:
        """Return the CPU seconds of each program so far, including its children (kustomize, git)."""
        return {name: cpu_seconds(pid) for name, pid in self.programs().items()}

    def memory(self) -> dict[str, float]:
        """Return the resident memory of each program in MB."""
        rss = {name: psutil.Process(pid).memory_info().rss for name, pid in self.programs().items()}
        return {f"memory: {name}, MB": used / 2**20 for name, used in rss.items()}


def synced(status: dict[str, Any], commit: str | None = None) -> bool:
    """Return whether an Application is synced, to a commit if it is given, and that sync has succeeded."""
    sync, operation = status.get("sync") or {}, status.get("operationState") or {}
    done = sync.get("status") == "Synced" and operation.get("phase") == "Succeeded"
    return done and (
        commit is None or operation.get("syncResult", {}).get("revision") == sync.get("revision") == commit
    )


def git_server(facts: dict[str, Any], root: Path) -> Hub:
    """Return the stand-in for GitHub at an address that the cluster reaches; its webhooks go to Argo CD."""
    options = [f"--host={facts['host']}", "--at-once=0", f"--hook-secret={facts['webhook_secret']}"]
    return Hub(root, {}, [*options, *(f"--hook={url}" for url in facts["hooks"])])


# The measurements


def appear(cluster: ArgoCD, fleet: Fleet, models: int) -> dict[str, float]:
    """Add models, push, and time how long it takes until every Application exists and is synced."""
    wanted = models * len(ENVIRONMENTS)
    run(*cluster.tool, "volumes", str(wanted))  # for the pods' claims
    begin = time.monotonic()
    fleet.grow(models)
    wait(f"{wanted} Applications are synced", lambda: cluster.count_synced() == wanted, 1800, every=0.5)
    return {"new folders → all synced, s": time.monotonic() - begin}


def deliver(cluster: ArgoCD, fleet: Fleet) -> dict[str, float]:
    """Time from `git push` until a webhook has synced the Application, and Argo CD's CPU per commit."""
    seconds, before = [], cluster.cpu()
    for turn in range(COMMITS):
        cluster.settle()
        number, environment = turn * fleet.models // COMMITS, ENVIRONMENTS[turn % len(ENVIRONMENTS)]
        name, commit = f"{environment}-{_name(number)}", fleet.release(environment, number)
        there = lambda at=commit, app=name: cluster.is_synced(app, at)  # noqa: E731
        begin = time.monotonic()
        fleet.push()
        wait(f"{name} is at {commit}", there, 600)
        seconds.append(time.monotonic() - begin)
    cluster.settle()
    used = {name: (after - before[name]) / COMMITS for name, after in cluster.cpu().items()}
    return {
        "commit → synced, median s": statistics.median(seconds),
        "commit → synced, slowest s": max(seconds),
        "CPU a commit: controller, s": used["application-controller"],
        "CPU a commit: repo-server, s": used["repo-server"],
    }


def render(fleet: Fleet) -> dict[str, float]:
    """Time `kustomize build` of each overlay, one after another."""
    seconds = []
    for overlay in fleet.overlays():
        begin = time.monotonic()
        build(fleet.tree / overlay)
        seconds.append(time.monotonic() - begin)
    return {"render one, median s": statistics.median(seconds), "render all, s": sum(seconds)}


# The report


def exponent(sizes: list[int], values: list[float]) -> float:
    """Fit `a · models^b` and return b: 0 means no growth, 1 means growth in proportion to the models."""
    if len(sizes) < 2:  # noqa: PLR2004
        return math.nan
    return float(np.polyfit(np.log(sizes), np.log(np.maximum(values, SMALLEST)), 1)[0])


def plot(figures: pd.DataFrame) -> Figure:
    """Plot seconds and MB over the number of models on logarithmic axes, where a power is a line."""
    figure = Figure(figsize=(12, 5), layout="constrained")
    memory = figures.index.str.endswith("MB")
    parts = ("seconds", figures[~memory]), ("resident MB", figures[memory])
    for axes, (unit, rows) in zip(figure.subplots(1, 2), parts, strict=True):
        axes.plot(rows.T, marker="o", label=[*rows.index])
        axes.set(xscale="log", yscale="log", xlabel="models (three environments each)", ylabel=unit)
        axes.grid(visible=True, which="both", alpha=0.3)
        axes.legend(fontsize="small")
    return figure


def main() -> None:
    """Run the benchmark for each number of models, on a cluster that follows no repository yet."""
    parser = argparse.ArgumentParser("bench-gitops", description=__doc__)
    parser.add_argument("--models", type=int, nargs="+", default=[1, 10, 100], metavar="N")
    sizes = sorted(parser.parse_args().models)
    cluster, found = ArgoCD(), {}
    if cluster.kubectl("get", "applicationsets", "--all-namespaces", "--output=name"):
        raise LoopError("the cluster follows a repository already", fix="make cluster-down && make cluster")
    # Enough nodes for two pods per model and environment, which exist during a rolling update
    run(*cluster.tool, "nodes", "cpu", str(math.ceil(sizes[-1] * len(ENVIRONMENTS) / 50)))
    with (
        tempfile.TemporaryDirectory(prefix="bench-gitops-") as scratch,
        git_server(cluster.facts, Path(scratch) / "github") as hub,
    ):
        fleet = Fleet(Path(scratch) / "tree", hub)
        cluster.follow(fleet, hub)
        for models in sizes:
            found[models] = appear(cluster, fleet, models) | deliver(cluster, fleet)
            found[models] |= cluster.memory() | render(fleet)
            figures = pd.DataFrame(found)
            growth = [exponent([*found], row) for row in figures.to_numpy().tolist()]
            table = figures.rename(columns="models: {}".format).assign(**{"grows with models^": growth})
            report("gitops", table, table.to_dict(), plot(figures))


if __name__ == "__main__":
    start("bench-gitops", main)
