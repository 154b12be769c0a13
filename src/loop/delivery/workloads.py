"""What runs pods, whichever kind of object it is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Manifest = dict[str, Any]
TEMPLATES: dict[str, Callable[[Manifest], Manifest]] = {  # kind: where its pod's template is
    "Deployment": lambda spec: spec["template"],
    "StatefulSet": lambda spec: spec["template"],
    "DaemonSet": lambda spec: spec["template"],
    "Job": lambda spec: spec["template"],
    "CronJob": lambda spec: spec["jobTemplate"]["spec"]["template"],
}


@dataclass(frozen=True)
class Workload:
    """A manifest that runs pods, and the template of these."""

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
        """The pods' labels."""
        return dict(self.template.get("metadata", {}).get("labels", {}))

    @property
    def pod(self) -> Manifest:
        """The pods' spec."""
        return dict(self.template["spec"])

    @property
    def stays(self) -> bool:
        """Whether its pods are meant to run until they are taken down."""
        return self.manifest["kind"] not in {"Job", "CronJob"}

    @property
    def containers(self) -> list[Manifest]:
        """Those that do the work."""
        return list(self.pod["containers"])

    @property
    def every_container(self) -> list[Manifest]:
        """Those that prepare it, and those that look into it, too."""
        others = [each for key in ("initContainers", "ephemeralContainers") for each in self.pod.get(key, [])]
        return [*others, *self.containers]


def workloads(manifests: list[Manifest]) -> list[Workload]:
    """Everything among manifests that runs pods."""
    return [
        Workload(manifest, TEMPLATES[manifest["kind"]](manifest["spec"]))
        for manifest in manifests
        if manifest["kind"] in TEMPLATES
    ]


def of(kind: str, manifests: list[Manifest]) -> list[Manifest]:
    """The manifests of one kind."""
    return [manifest for manifest in manifests if manifest["kind"] == kind]
