"""Finds the pod template in every Kubernetes object that runs pods, whatever its kind."""

from dataclasses import dataclass
from typing import Any

Manifest = dict[str, Any]
OPTIONS = "argocd.argoproj.io/sync-options"
JOBS = ("Job", "CronJob")
KINDS = ("Deployment", "StatefulSet", "DaemonSet", *JOBS)


@dataclass(frozen=True)
class Workload:
    """A manifest that runs pods, and its pod template."""

    manifest: Manifest
    template: Manifest

    def __str__(self) -> str:
        return f"{self.manifest['kind']} {self.manifest['metadata']['name']}"

    @property
    def pod(self) -> Manifest:
        """The spec of the workload's pods."""
        return dict(self.template["spec"])

    @property
    def stays(self) -> bool:
        """Whether the workload's pods run until they are removed, unlike those of a Job or CronJob."""
        return self.manifest["kind"] not in JOBS

    @property
    def containers(self) -> list[Manifest]:
        """The main containers of the workload's pods, without init and ephemeral containers."""
        return list(self.pod["containers"])

    @property
    def every_container(self) -> list[Manifest]:
        """All containers of the workload's pods, including init and ephemeral containers."""
        others = [each for key in ("initContainers", "ephemeralContainers") for each in self.pod.get(key, [])]
        return [*others, *self.containers]


def workloads(manifests: list[Manifest]) -> list[Workload]:
    """Return the manifests that run pods, as workloads."""
    found = [manifest for manifest in manifests if manifest["kind"] in KINDS]
    runs = (each["spec"]["jobTemplate"] if each["kind"] == "CronJob" else each for each in found)
    return [Workload(each, run["spec"]["template"]) for each, run in zip(found, runs, strict=True)]


def of(kind: str, manifests: list[Manifest]) -> list[Manifest]:
    """Return the manifests of one kind, such as Deployment."""
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def sync_options(manifest: Manifest) -> set[str]:
    """Return the sync options that a manifest sets for Argo CD."""
    return set(str(manifest["metadata"].get("annotations", {}).get(OPTIONS, "")).split(","))
