"""The state that the e2e tests share: a cluster, a team with a fork, and production's traffic."""

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
QUIET = "[skip ci]"  # ends the title of a commit that starts no workflow


@dataclass
class Scene:
    """The state of one session. Tests change it in the order in which they run."""

    cluster: Cluster
    team: Team
    world: World
    figures: Figures
    folder: Path
    bodies: Path  # requests of calm weeks, one JSON body a line
    begun: float = field(default_factory=time.time)
    kept: dict[str, Any] = field(default_factory=dict)  # values that one test leaves for a later one

    @property
    def console(self) -> Console:
        return self.team.tell

    @property
    def model(self) -> str:
        return public(self.team.model)

    def namespace(self, environment: str = ENVIRONMENT) -> str:
        """Return the namespace of an environment."""
        return f"{self.model}-{environment}"

    # Git

    def push(self, title: str, edit: Callable[[], object], body: str = "") -> str:
        """Push a person's commit to main and return it; try again if a workflow has pushed first."""
        for _ in range(5):
            self.team.git.run("checkout", "--quiet", "--detach", self.team.git.fetch("main"))
            edit()
            self.team.git.run("add", "--all")
            self.team.git.run("commit", "--quiet", "-m", f"{title}\n\n{body}")
            with suppress(GitError):
                self.team.git.run("push", "--quiet", "origin", "HEAD:main")
                return self.team.git.head()
        raise AssertionError(f"{title}: five pushes to main failed")

    def revert(self, commit: str) -> str:
        """Revert a commit without starting a workflow."""
        return self.push(
            f"Undo {commit[:12]} {QUIET}", lambda: self.team.git.run("revert", "--no-commit", commit)
        )

    def overlay(self, environment: str, model: str | None = None) -> Path:
        """Return the path of an overlay's kustomization in the person's clone."""
        folder = self.team.clone / "kustomize" / "overlays" / environment / (model or self.model)
        return folder / "kustomization.yaml"

    def step(self) -> str:
        """Return the step of production's canary on main."""
        state = self.team.state()
        return steps.step_of(state) if state.canary else "stable"

    # Argo CD

    def application(self, environment: str, model: str | None = None) -> dict[str, Any]:
        """Return an Application's status, or {} while the Application does not exist."""
        found = self.cluster.get(f"{APPLICATIONS}/{environment}-{model or self.model}")
        return (found or {}).get("status", {})

    def wait_until_synced(self, commit: str, environment: str, seconds: float = 60) -> None:
        """Wait until Argo CD has synced an environment to `commit`."""

        def at_commit() -> bool:
            sync = self.application(environment).get("sync", {})
            return (sync.get("status"), sync.get("revision")) == ("Synced", commit)

        until(
            at_commit,
            lambda: f"{environment} is not synced to {commit}: {self.application(environment)}",
            seconds,
        )

    def unhealthy(self) -> list[str]:
        """Return the Applications that are not Synced and Healthy, with their states."""
        found = []
        for application in self.cluster.items(APPLICATIONS):
            status = application.get("status", {})
            states = status.get("sync", {}).get("status"), status.get("health", {}).get("status")
            if states != ("Synced", "Healthy"):
                found.append(f"{application['metadata']['name']}: {states}")
        return found

    def wait_until_settled(self, seconds: float = 120) -> None:
        """Wait until every Application is Synced and Healthy, and the cluster does not differ from main."""

        def problems() -> str:
            return "\n".join(self.unhealthy()) or self.difference(self.team.git.fetch("main"))

        until(lambda: not problems(), problems, seconds)

    def difference(self, commit: str) -> str:
        """Return the output of `kubectl diff` for every overlay at a commit, empty if the cluster matches."""
        found = []
        with self.team.git.worktree(commit) as tree:
            for path in sorted(tree.glob("kustomize/overlays/*/*/kustomization.yaml")):
                manifests = render.build(path.parent)
                options = ("--server-side", "--force-conflicts", "--field-manager=e2e", "-f", "-")
                found.append(self.cluster.kubectl("diff", *options, stdin=manifests, codes=(0, 1)))
        return "".join(found)

    def prepare_namespace(self, environment: str = ENVIRONMENT) -> None:
        """Create what an environment needs from its operator: namespace, token, Pushgateway's address."""
        space = self.namespace(environment)
        for manifest in (
            namespace_of(space),
            secret_of("github", space, {"token": self.team.hub.bot.token}),
            settings_of("monitor", space, {"PUSHGATEWAY_URL": PUSHGATEWAY}),
        ):
            self.cluster.apply(json.dumps(manifest))

    def run_drift_job(self, name: str) -> str:
        """Run the drift job to its end and return the monitor's log."""
        namespace = f"--namespace={self.namespace()}"
        self.cluster.kubectl("create", "job", name, "--from=cronjob/drift", namespace)
        self.cluster.kubectl("wait", "--for=condition=complete", f"job/{name}", "--timeout=150s", namespace)
        return self.cluster.kubectl("logs", f"job/{name}", "--container=monitor", namespace)

    # Objects in the cluster

    def objects(self, kind: str, environment: str = ENVIRONMENT, **query: str) -> list[dict[str, Any]]:
        """Return a namespace's objects of one kind, such as `v1/pods` or `apps/v1/deployments`."""
        group, _, plural = kind.rpartition("/")
        base = "/api" if group == "v1" else "/apis"
        return self.cluster.items(
            f"{base}/{group}/namespaces/{self.namespace(environment)}/{plural}", **query
        )

    def pods(self, environment: str = ENVIRONMENT, component: str = "serving") -> list[dict[str, Any]]:
        """Return an environment's pods, without those that are being deleted."""
        label = f"app.kubernetes.io/component={component}"
        found = self.objects("v1/pods", environment, labelSelector=label)
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def ready(self, environment: str, track: str = "stable") -> bool:
        """Say whether a track has pods, and all of them are Ready."""
        mine = self._of(environment, track)
        return bool(mine) and all(_ready(pod) for pod in mine)

    def ready_pods(self, track: str, environment: str = ENVIRONMENT) -> int:
        """Return the number of a track's pods that are Ready."""
        return sum(_ready(pod) for pod in self._of(environment, track))

    def _of(self, environment: str, track: str) -> list[dict[str, Any]]:
        return [pod for pod in self.pods(environment) if pod["metadata"]["labels"]["track"] == track]

    def weights(self, environment: str = ENVIRONMENT) -> dict[str, int]:
        """Return the weights of the route in the cluster."""
        route = self.objects("gateway.networking.k8s.io/v1/httproutes", environment)[0]
        return {ref["name"]: ref["weight"] for ref in route["spec"]["rules"][0]["backendRefs"]}

    # Traffic

    def host(self, environment: str = ENVIRONMENT) -> str:
        """Return the host name of an environment's route."""
        return str(
            self.objects("gateway.networking.k8s.io/v1/httproutes", environment)[0]["spec"]["hostnames"][0]
        )

    def load(self, rate: float, name: str, environment: str = ENVIRONMENT) -> Load:
        """Start a continuous load on an environment. Its answers are written to `name`.jsonl."""
        gateway, out = self.cluster.facts.gateway, self.folder / f"{name}.jsonl"
        return Load(gateway, self.host(environment), rate, self.bodies, out)

    def burst(self, requests: int, name: str, environment: str = ENVIRONMENT) -> Answers:
        """Return the answers to `requests` requests, which a few clients send as fast as they can."""
        with self.load(0, name, environment) as load:
            until(lambda: len(load.answers().all) >= requests, f"{name}: fewer than {requests} answers", 120)
        return Answers(load.answers().all[:requests])

    def write_bodies(self) -> None:
        """Let the weeks without drift pass: the store logs them, and the loads send them as requests."""
        with self.bodies.open("w") as file:
            while rows := self.world.take(2000, self.world.drift_from):
                file.writelines(json.dumps(row) + "\n" for row in rows)


def _ready(pod: dict[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
