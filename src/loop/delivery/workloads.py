"""Finds the pod template in every Kubernetes object that runs pods, whatever its kind."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Manifest = dict[str, Any]
TEMPLATES: dict[
    str, Callable[[Manifest], Manifest]
] = {  # by kind of object: from its spec to its pod template
    "Deployment": lambda spec: spec["template"],
    "StatefulSet": lambda spec: spec["template"],
    "DaemonSet": lambda spec: spec["template"],
    "Job": lambda spec: spec["template"],
    "CronJob": lambda spec: spec["jobTemplate"]["spec"]["template"],
}


@dataclass(frozen=True)
class Workload:
    """A manifest that runs pods, and its pod template."""

    manifest: Manifest
    template: Manifest

    def __str__(self) -> str:
        return f"{self.manifest['kind']} {self.name}"

    @property
    def name(self) -> str:
        return str(self.manifest["metadata"]["name"])

    @property
    def namespace(self) -> str:
        return str(self.manifest["metadata"].get("namespace", ""))

    @property
    def labels(self) -> dict[str, str]:
        """The labels of the workload's pods."""
        return dict(self.template.get("metadata", {}).get("labels", {}))

    @property
    def pod(self) -> Manifest:
        """The spec of the workload's pods."""
        return dict(self.template["spec"])

    @property
    def stays(self) -> bool:
        """Whether the workload's pods run until they are removed, unlike those of a Job or CronJob."""
        return self.manifest["kind"] not in {"Job", "CronJob"}

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
    return [
        Workload(manifest, TEMPLATES[manifest["kind"]](manifest["spec"]))
        for manifest in manifests
        if manifest["kind"] in TEMPLATES
    ]


def of(kind: str, manifests: list[Manifest]) -> list[Manifest]:
    """Return the manifests of one kind, such as Deployment."""
    return [manifest for manifest in manifests if manifest["kind"] == kind]
