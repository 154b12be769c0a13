"""What every step plays on: a cluster, a team with its fork, production's traffic; and what always holds."""

import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster import Cluster, namespace_of, secret_of, settings_of, until
from figures import Figures
from load import Answers, Load

from loop.core.git import GitError
from loop.core.names import public
from loop.delivery import render, steps
from loop_demo.console import Console
from loop_demo.team import ENVIRONMENT, Team
from loop_demo.world import World

APPLICATIONS = "/apis/argoproj.io/v1alpha1/namespaces/argocd/applications"
PUSHGATEWAY = "http://prometheus-pushgateway.monitoring:9091"
QUIET = "[skip ci]"  # at the end of a title: no workflow starts


@dataclass
class Scene:
    """One session's state; tests add to it in their order."""

    cluster: Cluster
    team: Team
    world: World
    figures: Figures
    folder: Path
    bodies: Path  # requests of calm weeks, one JSON body a line
    begun: float = field(default_factory=time.time)
    kept: dict[str, Any] = field(default_factory=dict)  # what one test leaves for another

    @property
    def tell(self) -> Console:
        return self.team.tell

    @property
    def model(self) -> str:
        return public(self.team.model)

    def namespace(self, environment: str = ENVIRONMENT) -> str:
        """Where an environment's objects are."""
        return f"{self.model}-{environment}"

    # Git

    def push(self, title: str, edit: Callable[[], object], body: str = "") -> str:
        """A person's commit on main, by push; where a machine came first, once more. Returns the commit."""
        for _ in range(5):
            self.team.git.run("checkout", "--quiet", "--detach", self.team.git.fetch("main"))
            edit()
            self.team.git.run("add", "--all")
            self.team.git.run("commit", "--quiet", "-m", f"{title}\n\n{body}")
            with suppress(GitError):
                self.team.git.run("push", "--quiet", "origin", "HEAD:main")
                return self.team.git.head()
        raise AssertionError(f"{title}: never came through")

    def revert(self, commit: str) -> str:
        """Undo a commit by another one, which starts no workflow."""
        return self.push(
            f"Undo {commit[:12]} {QUIET}", lambda: self.team.git.run("revert", "--no-commit", commit)
        )

    def overlay(self, environment: str, model: str | None = None) -> Path:
        """An overlay's kustomization in the person's clone."""
        folder = self.team.clone / "kustomize" / "overlays" / environment / (model or self.model)
        return folder / "kustomization.yaml"

    def step(self) -> str:
        """Where production's canary is, as main says."""
        state = self.team.state()
        return steps.step_of(state) if state.canary else "stable"

    # Argo CD

    def application(self, environment: str, model: str | None = None) -> dict[str, Any]:
        """An Application's status; {} while there is none."""
        found = self.cluster.get(f"{APPLICATIONS}/{environment}-{model or self.model}")
        return (found or {}).get("status", {})

    def synced(self, commit: str, environment: str, seconds: float = 60) -> None:
        """Wait until an environment is as `commit` says."""

        def as_wanted() -> bool:
            sync = self.application(environment).get("sync", {})
            return (sync.get("status"), sync.get("revision")) == ("Synced", commit)

        until(
            as_wanted, lambda: f"{environment} is not at {commit}: {self.application(environment)}", seconds
        )

    def unwell(self) -> list[str]:
        """Applications that are not Synced and Healthy."""
        found = []
        for application in self.cluster.items(APPLICATIONS):
            status = application.get("status", {})
            states = status.get("sync", {}).get("status"), status.get("health", {}).get("status")
            if states != ("Synced", "Healthy"):
                found.append(f"{application['metadata']['name']}: {states}")
        return found

    def settled(self, seconds: float = 120) -> None:
        """Nothing is OutOfSync or Degraded, and the cluster does not differ from main."""

        def amiss() -> str:
            return "\n".join(self.unwell()) or self.difference(self.team.git.fetch("main"))

        until(lambda: not amiss(), amiss, seconds)

    def difference(self, commit: str) -> str:
        """`kubectl diff` of every overlay at a commit; empty where the cluster is as Git says."""
        found = []
        with self.team.git.worktree(commit) as tree:
            for path in sorted(tree.glob("kustomize/overlays/*/*/kustomization.yaml")):
                manifests = render.build(path.parent)
                options = ("--server-side", "--force-conflicts", "--field-manager=e2e", "-f", "-")
                found.append(self.cluster.kubectl("diff", *options, stdin=manifests, codes=(0, 1)))
        return "".join(found)

    def admit(self, environment: str = ENVIRONMENT) -> None:
        """What a cluster's operator gives a model's environment: its namespace, a token, the Pushgateway."""
        space = self.namespace(environment)
        for manifest in (
            namespace_of(space),
            secret_of("github", space, {"token": self.team.hub.bot.token}),
            settings_of("monitor", space, {"PUSHGATEWAY_URL": PUSHGATEWAY}),
        ):
            self.cluster.apply(json.dumps(manifest))

    def job(self, name: str) -> str:
        """Run the drift job now, to its end; what its monitor said."""
        namespace = f"--namespace={self.namespace()}"
        self.cluster.kubectl("create", "job", name, "--from=cronjob/drift", namespace)
        self.cluster.kubectl("wait", "--for=condition=complete", f"job/{name}", "--timeout=150s", namespace)
        return self.cluster.kubectl("logs", f"job/{name}", "--container=monitor", namespace)

    # What runs

    def objects(self, kind: str, environment: str = ENVIRONMENT, **query: str) -> list[dict[str, Any]]:
        """Objects of a namespace: kind as `v1/pods`, `apps/v1/deployments`."""
        group, _, plural = kind.rpartition("/")
        base = "/api" if group == "v1" else "/apis"
        return self.cluster.items(
            f"{base}/{group}/namespaces/{self.namespace(environment)}/{plural}", **query
        )

    def pods(self, environment: str = ENVIRONMENT, component: str = "serving") -> list[dict[str, Any]]:
        """An environment's pods that are not on their way out."""
        label = f"app.kubernetes.io/component={component}"
        found = self.objects("v1/pods", environment, labelSelector=label)
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def ready(self, environment: str, track: str = "stable") -> bool:
        """Whether a track's pods are all Ready, and there is one."""
        mine = self._of(environment, track)
        return bool(mine) and all(_ready(pod) for pod in mine)

    def ready_pods(self, track: str, environment: str = ENVIRONMENT) -> int:
        """How many of a track's pods are Ready."""
        return sum(_ready(pod) for pod in self._of(environment, track))

    def _of(self, environment: str, track: str) -> list[dict[str, Any]]:
        return [pod for pod in self.pods(environment) if pod["metadata"]["labels"]["track"] == track]

    def weights(self, environment: str = ENVIRONMENT) -> dict[str, int]:
        """The route's weights as the cluster has them."""
        route = self.objects("gateway.networking.k8s.io/v1/httproutes", environment)[0]
        return {ref["name"]: ref["weight"] for ref in route["spec"]["rules"][0]["backendRefs"]}

    # Traffic

    def host(self, environment: str = ENVIRONMENT) -> str:
        """The name that the gateway routes by."""
        return str(
            self.objects("gateway.networking.k8s.io/v1/httproutes", environment)[0]["spec"]["hostnames"][0]
        )

    def load(self, rate: float, name: str, environment: str = ENVIRONMENT) -> Load:
        """Start a continuous load on an environment; what it gets is kept in `name`.jsonl."""
        gateway, out = self.cluster.facts.gateway, self.folder / f"{name}.jsonl"
        return Load(gateway, self.host(environment), rate, self.bodies, out)

    def burst(self, requests: int, name: str, environment: str = ENVIRONMENT) -> Answers:
        """The answers to so many requests, sent by a few clients as quickly as they are answered."""
        with self.load(0, name, environment) as load:
            until(lambda: len(load.answers().all) >= requests, f"{name}: {requests} answers", 120)
        return Answers(load.answers().all[:requests])

    def write_bodies(self) -> None:
        """Let the calm weeks happen: they are logged in the store, and are what loads send."""
        with self.bodies.open("w") as file:
            while rows := self.world.take(2000, self.world.drift_from):
                file.writelines(json.dumps(row) + "\n" for row in rows)


def _ready(pod: dict[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
