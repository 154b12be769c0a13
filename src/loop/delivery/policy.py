"""What every rendered manifest must keep to. Each policy yields its breaches, as sentences."""

import re
from collections.abc import Callable, Iterator
from typing import Any

Manifest = dict[str, Any]
Policy = Callable[[list[Manifest]], Iterator[str]]
PINNED = re.compile(r"(?:[^/@]+/)*[^/@:]+@sha256:[0-9a-f]{64}")
GPU = "nvidia.com/gpu"


def breaches(manifests: list[Manifest]) -> list[str]:
    """Every breach of every policy."""
    return [breach for policy in POLICIES for breach in policy(manifests)]


def digest_only(manifests: list[Manifest]) -> Iterator[str]:
    """Images are pinned by digest and carry no tag: a tag moves, and restarts pods."""
    for name, container in _containers(manifests):
        if not PINNED.fullmatch(image := str(container.get("image"))):
            yield f"{name}: image is {image}, must be name@sha256:<digest> without a tag"


def weights_sum(manifests: list[Manifest]) -> Iterator[str]:
    """The weights of a route's rule sum to 100: what people read as per cent is per cent."""
    for name, rule in _rules(manifests):
        weights = [backend.get("weight") for backend in rule.get("backendRefs", [])]
        if not all(isinstance(weight, int) for weight in weights) or sum(weights) != 100:  # noqa: PLR2004
            yield f"{name}: weights are {weights}, must be whole numbers that sum to 100"


def explicit_backends(manifests: list[Manifest]) -> Iterator[str]:
    """A route writes out group and kind: left to defaults, Argo CD sees a difference for ever."""
    for name, rule in _rules(manifests):
        for backend in rule.get("backendRefs", []):
            if (backend.get("group"), backend.get("kind")) != ("", "Service"):
                yield f'{name}: backendRef {backend.get("name")} must say group: "" and kind: Service'


def backends_exist(manifests: list[Manifest]) -> Iterator[str]:
    """A route names only Services that are rendered with it."""
    services = {service["metadata"]["name"] for service in _of("Service", manifests)}
    for name, rule in _rules(manifests):
        for backend in rule.get("backendRefs", []):
            if backend.get("name") not in services:
                yield f"{name}: backendRef {backend.get('name')} names no Service that is rendered"


def autoscaler_owns_replicas(manifests: list[Manifest]) -> Iterator[str]:
    """Where an autoscaler scales a Deployment, the Deployment says no `replicas`, or each sync undoes it."""
    scaled = {
        scaler["spec"]["scaleTargetRef"]["name"] for scaler in _of("HorizontalPodAutoscaler", manifests)
    }
    for deployment in _of("Deployment", manifests):
        if "replicas" in deployment["spec"] and deployment["metadata"]["name"] in scaled:
            yield f"{_name(deployment)}: has spec.replicas, which its HorizontalPodAutoscaler owns"


def gpu_pool(manifests: list[Manifest]) -> Iterator[str]:
    """A GPU limit goes with the pool's toleration and nodeSelector, and with maxSurge 0: no GPU is spare."""
    for deployment in _of("Deployment", manifests):
        pod = deployment["spec"]["template"]["spec"]
        limits = [container.get("resources", {}).get("limits", {}) for container in pod["containers"]]
        if not any(GPU in limit for limit in limits):
            continue
        if not any(toleration.get("key") == GPU for toleration in pod.get("tolerations", [])):
            yield f"{_name(deployment)}: limits {GPU} without a toleration of {GPU}"
        if not pod.get("nodeSelector"):
            yield f"{_name(deployment)}: limits {GPU} without a nodeSelector"
        if deployment["spec"].get("strategy", {}).get("rollingUpdate", {}).get("maxSurge") != 0:
            yield f"{_name(deployment)}: limits {GPU} with a maxSurge that is not 0"


def probed(manifests: list[Manifest]) -> Iterator[str]:
    """Every container says how to see that it is ready and alive."""
    for name, container in _containers(manifests):
        for probe in ("readinessProbe", "livenessProbe"):
            if not container.get(probe):
                yield f"{name}: has no {probe}"


def bounded(manifests: list[Manifest]) -> Iterator[str]:
    """Every container says what CPU and memory it asks for and is held to."""
    for name, container in _containers(manifests):
        for bound in ("requests", "limits"):
            given = container.get("resources", {}).get(bound, {})
            for resource in ("cpu", "memory"):
                if resource not in given:
                    yield f"{name}: has no resources.{bound}.{resource}"


def restricted(manifests: list[Manifest]) -> Iterator[str]:
    """Containers run as a numbered user without privileges, on a read-only root, without a cluster token."""
    for deployment in _of("Deployment", manifests):
        pod = deployment["spec"]["template"]["spec"]
        if pod.get("automountServiceAccountToken") is not False:
            yield f"{_name(deployment)}: automountServiceAccountToken must be false"
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            context = {**pod.get("securityContext", {}), **container.get("securityContext", {})}
            yield from (f"{_name(deployment)}/{container['name']}: {breach}" for breach in _unsafe(context))


def denied_by_default(manifests: list[Manifest]) -> Iterator[str]:
    """A namespace with pods has a NetworkPolicy that denies everything which no other one allows."""
    denied = {
        policy["metadata"].get("namespace")
        for policy in _of("NetworkPolicy", manifests)
        if policy["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    }
    for deployment in _of("Deployment", manifests):
        if deployment["metadata"].get("namespace") not in denied:
            yield f"{_name(deployment)}: its namespace has no NetworkPolicy that denies by default"


POLICIES: tuple[Policy, ...] = (
    digest_only,
    weights_sum,
    explicit_backends,
    backends_exist,
    autoscaler_owns_replicas,
    gpu_pool,
    probed,
    bounded,
    restricted,
    denied_by_default,
)


def _unsafe(context: dict[str, Any]) -> Iterator[str]:
    required = {"runAsNonRoot": True, "readOnlyRootFilesystem": True, "allowPrivilegeEscalation": False}
    for key, value in required.items():
        if context.get(key) is not value:
            yield f"securityContext.{key} must be {str(value).lower()}"
    if not context.get("runAsUser"):
        yield "securityContext.runAsUser must be a number other than 0"
    if context.get("capabilities", {}).get("drop") != ["ALL"]:
        yield "securityContext.capabilities.drop must be [ALL]"
    if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "securityContext.seccompProfile.type must be RuntimeDefault"


def _of(kind: str, manifests: list[Manifest]) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def _name(manifest: Manifest) -> str:
    return f"{manifest['kind']} {manifest['metadata']['name']}"


def _containers(manifests: list[Manifest]) -> Iterator[tuple[str, dict[str, Any]]]:
    for deployment in _of("Deployment", manifests):
        pod = deployment["spec"]["template"]["spec"]
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            yield f"{_name(deployment)}/{container['name']}", container


def _rules(manifests: list[Manifest]) -> Iterator[tuple[str, dict[str, Any]]]:
    for route in _of("HTTPRoute", manifests):
        for rule in route["spec"]["rules"]:
            yield _name(route), rule
