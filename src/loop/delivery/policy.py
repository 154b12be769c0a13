"""The policies that every rendered manifest must meet. Each policy yields its violations as sentences."""

import json
import re
from collections.abc import Iterator
from ipaddress import ip_network
from typing import Any

from loop.delivery.workloads import Manifest, Workload, of, sync_options, workloads

PINNED = re.compile(r"(?:[^/@]+/)*[^/@:]+@sha256:[0-9a-f]{64}")
GPU = "nvidia.com/gpu"
LOG = "PREDICTION_LOG_DIR"
# The paths that callers need, with and without a trailing slash; kustomize/components/route lists the same.
PUBLIC = tuple(
    f"{path}{slash}"
    for path in ("/predict", "/v1/embeddings", "/health", "/openapi.json")
    for slash in ("", "/")
)
FILTERS = ("RequestHeaderModifier", "ResponseHeaderModifier")  # route filters that cannot redirect a call
WHO = {"namespace", "pod", "container", "track", "job"}  # labels by which judge and alerts identify a pod
KEPT = {"Prune=false", "Delete=false"}
# The volume types that the Pod Security Standard "restricted" allows. Other types may expose the node.
VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
# Fields that a securityContext must set to these values, and fields that it must not set.
DEFAULT = {"type": "RuntimeDefault"}
REQUIRED = {
    "runAsNonRoot": True,
    "readOnlyRootFilesystem": True,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": DEFAULT,
    "appArmorProfile": DEFAULT,
}
UNSET = ("privileged", "procMount", "seLinuxOptions", "sysctls", "windowsOptions")
# Private networks and the cloud's metadata server. Egress to the internet must exclude them.
PRIVATE = (
    *map(ip_network, ("10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16")),
    *map(ip_network, ("fc00::/7", "fe80::/10")),
)
# Fields of a kind's spec, the values that they may have (None: not set), and the reason.
FIELDS: dict[tuple[str, str], tuple[list[Any], str]] = {
    ("Service", "type"): ([None, "ClusterIP"], "callers use the gateway"),
    ("Service", "externalIPs"): ([[], None], "callers use the gateway"),
    ("PodDisruptionBudget", "unhealthyPodEvictionPolicy"): (
        ["AlwaysAllow"],
        "pods that are not ready must not block the drain of their node",
    ),
    ("PodMonitor", "namespaceSelector"): ([{}, None], "it would scrape pods of other namespaces"),
}
SIDES = {"ingress": "from", "egress": "to"}  # the key of the peers in a rule of each side
DNS_PORT = 53
DNS = {
    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
    "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
}


def breaches(manifests: list[Manifest]) -> list[str]:
    """Return every violation of every policy."""
    return [breach for policy in POLICIES for breach in policy(manifests)]


def digest_only(manifests: list[Manifest]) -> Iterator[str]:
    """Images must be pinned by digest and carry no tag, because a tag can move and so restart pods."""
    for name, container, _ in _containers(manifests):
        if not PINNED.fullmatch(image := str(container.get("image"))):
            yield f"{name}: image is {image}, must be name@sha256:<digest> without a tag"


def backends(manifests: list[Manifest]) -> Iterator[str]:
    """A route must have matches, and split its calls between Services that are rendered with it.

    Group and kind must be set, because Argo CD reports defaulted fields as a difference. The weights must sum
    to 100, because people read them as percentages.
    """
    services = {service["metadata"]["name"] for service in of("Service", manifests)}
    for name, rule in _rules(manifests):
        if not rule.get("matches"):
            yield f"{name}: a rule has no matches, must have some"
        weights = [backend.get("weight") for backend in rule.get("backendRefs", [])]
        if not all(isinstance(weight, int) for weight in weights) or sum(weights) != 100:  # noqa: PLR2004
            yield f"{name}: weights are {weights}, must be whole numbers that sum to 100"
        for backend in rule.get("backendRefs", []):
            named = f"{name}: backendRef {backend.get('name')}"
            if (backend.get("group"), backend.get("kind")) != ("", "Service"):
                yield f'{named} must set group: "" and kind: Service'
            if "namespace" in backend:
                yield f"{named} must not set a namespace"
            if backend.get("name") not in services:
                yield f"{named} names a Service that is not rendered"


def public_paths(manifests: list[Manifest]) -> Iterator[str]:
    """A route may expose only the listed paths, so that metrics and probes stay inside the cluster."""
    for name, rule in _rules(manifests):
        for match in rule.get("matches", []):
            path = match.get("path", {})
            if path.get("type") != "Exact" or path.get("value") not in PUBLIC:
                found = f"{path.get('type', 'PathPrefix')} {path.get('value', '/')}"
                yield f"{name}: a rule matches {found}, must match Exact {', '.join(PUBLIC)} only"
        for each in [rule, *rule.get("backendRefs", [])]:
            for kind in (one.get("type") for one in each.get("filters", [])):
                if kind not in FILTERS:
                    yield f"{name}: filter {kind} could redirect calls, must be one of {', '.join(FILTERS)}"


def fixed_fields(manifests: list[Manifest]) -> Iterator[str]:
    """A field of FIELDS must have one of its values."""
    for (kind, key), (allowed, why) in FIELDS.items():
        for each in of(kind, manifests):
            if (found := each["spec"].get(key)) not in allowed:
                name, wanted = each["metadata"]["name"], allowed[-1] or "unset"
                yield f"{kind} {name}: {key} is {found or 'unset'}, must be {wanted}: {why}"


def autoscaler_owns_replicas(manifests: list[Manifest]) -> Iterator[str]:
    """A Deployment must set `replicas` unless it has an autoscaler, whose changes a sync would undo."""
    scaled = {scaler["spec"]["scaleTargetRef"]["name"] for scaler in of("HorizontalPodAutoscaler", manifests)}
    for deployment in of("Deployment", manifests):
        name, said = deployment["metadata"]["name"], "replicas" in deployment["spec"]
        if said == (name in scaled):
            has = "both" if said else "neither"
            yield f"Deployment {name}: has {has}, must have either spec.replicas or a HorizontalPodAutoscaler"


def on_a_gpu(manifests: list[Manifest]) -> Iterator[str]:
    """A pod with a GPU limit needs a toleration, a nodeSelector, and maxSurge 0 because GPUs are scarce.

    A track must have a GPU limit exactly if its release was built for a GPU.
    """
    for workload in workloads(manifests):
        serving, every = (
            any(GPU in container.get("resources", {}).get("limits", {}) for container in containers)
            for containers in (workload.containers, workload.every_container)
        )
        if every and not any(each.get("key") == GPU for each in workload.pod.get("tolerations", [])):
            yield f"{workload}: limits {GPU}, must have a toleration of {GPU}"
        if every and not workload.pod.get("nodeSelector"):
            yield f"{workload}: limits {GPU}, must have a nodeSelector"
        surge = workload.manifest["spec"].get("strategy", {}).get("rollingUpdate", {}).get("maxSurge")
        if every and workload.stays and surge != 0:
            yield f"{workload}: limits {GPU}, must have maxSurge 0"
        labels = workload.manifest["metadata"].get("labels", {})
        built = labels.get("device") == "cuda"
        if "track" in labels and built and not serving:
            fix = "list component gpu after release in its overlay, and remove component small"
            yield f"{workload}: its release was built for a GPU, but it does not limit {GPU}; {fix}"
        if "track" in labels and serving and not built:
            fix = "set `serve: {device: cuda}` in params.yaml and release again, or remove the limit"
            yield f"{workload}: limits {GPU}, but its release was built for the CPU; {fix}"


def probed_and_drained(manifests: list[Manifest]) -> Iterator[str]:
    """A long-running container needs a liveness probe and, if it has ports, a readiness probe.

    A container with ports must sleep in preStop, because callers learn late that its pod is stopping.
    """
    for workload in workloads(manifests):
        most = workload.pod.get("terminationGracePeriodSeconds", 30)
        for container in workload.containers:
            name, ports = f"{workload}/{container['name']}", container.get("ports")
            if workload.stays and ports and not container.get("readinessProbe"):
                yield f"{name}: has no readinessProbe"
            if workload.stays and not container.get("livenessProbe"):
                yield f"{name}: has no livenessProbe"
            wait = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
            if ports and not 0 < wait < most:
                yield f"{name}: must sleep in preStop, shorter than its grace period"


def bounded(manifests: list[Manifest]) -> Iterator[str]:
    """Every container must set requests and limits for CPU and memory, and every job a deadline."""
    for name, container, _ in _containers(manifests):
        for bound in ("requests", "limits"):
            given = container.get("resources", {}).get(bound, {})
            for resource in ("cpu", "memory"):
                if resource not in given:
                    yield f"{name}: has no resources.{bound}.{resource}"
    for workload in workloads(manifests):
        spec = workload.manifest["spec"]
        job = spec.get("jobTemplate", {}).get("spec", spec)
        if not workload.stays and "activeDeadlineSeconds" not in job:
            yield f"{workload}: has no activeDeadlineSeconds"


def restricted(manifests: list[Manifest]) -> Iterator[str]:
    """Containers must run as an unprivileged numbered user, with a read-only root, isolated from the node.

    The rules are those of the Pod Security Standard "restricted", plus a read-only root file system and no
    token for the cluster's API. The admission policy in argocd/admission.yaml enforces the same rules in the
    cluster.
    """
    for workload in workloads(manifests):
        yield from (f"{workload}: {breach}" for breach in _near_the_node(workload.pod))
    for name, container, workload in _containers(manifests):
        found = _unsafe(container, workload.pod.get("securityContext", {}))
        yield from (f"{name}: {breach}" for breach in found)


def denied_by_default(manifests: list[Manifest]) -> Iterator[str]:
    """A namespace with pods needs a NetworkPolicy that denies all traffic that no other policy allows."""
    denied = {
        policy["metadata"].get("namespace", "")
        for policy in of("NetworkPolicy", manifests)
        if policy["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    }
    for workload in workloads(manifests):
        if workload.manifest["metadata"].get("namespace", "") not in denied:
            yield f"{workload}: its namespace has no NetworkPolicy that denies all traffic by default"


def segmented(manifests: list[Manifest]) -> Iterator[str]:
    """Each connection that a NetworkPolicy allows must name its peer and its port.

    The policy's podSelector is ignored, because the cluster may add labels to pods that no manifest shows.
    Pods may query only the cluster's DNS, because another server would see what they look up.
    """
    for policy in of("NetworkPolicy", manifests):
        name = f"NetworkPolicy {policy['metadata']['name']}"
        for side, peers in SIDES.items():
            for rule in policy["spec"].get(side, []):
                ports = rule.get("ports") or [{}]
                if any("port" not in port or "endPort" in port for port in ports):
                    yield f"{name}: {side} allows any port, must name peer and port"
                for peer in rule.get(peers) or [{}]:
                    yield from (f"{name}: {side} {fault}" for fault in _wide(side, peer))
                if side == "egress" and any(map(_asks_dns, ports)) and rule.get(peers) != [DNS]:
                    yield f"{name}: port 53 must allow only pods k8s-app=kube-dns in namespace kube-system"


def log_outlives(manifests: list[Manifest]) -> Iterator[str]:
    """A prediction log must be on a rendered PersistentVolumeClaim that Argo CD never deletes."""
    kept = {
        claim["metadata"]["name"]
        for claim in of("PersistentVolumeClaim", manifests)
        if sync_options(claim) >= KEPT
    }
    for workload in workloads(manifests):
        claims = {
            volume["name"]: volume.get("persistentVolumeClaim", {}).get("claimName")
            for volume in workload.pod.get("volumes", [])
        }
        for container in workload.containers:
            mounts = container.get("volumeMounts", [])
            mounted = {each["mountPath"]: claims.get(each["name"]) for each in mounts}
            logs = [env.get("value") for env in container.get("env", []) if env["name"] == LOG]
            if any(mounted.get(log) not in kept for log in logs):
                wanted = " and ".join(sorted(KEPT))
                yield f"{workload}/{container['name']}: {LOG} must be on a claim rendered with {wanted}"


def pods_pose_as_none(manifests: list[Manifest]) -> Iterator[str]:
    """A PodMonitor must not let a pod's metrics name another pod.

    `honorLabels` is allowed only if the PodMonitor keeps a named list of series, as it does for the
    Pushgateway.
    """
    for monitor in of("PodMonitor", manifests):
        name, spec = f"PodMonitor {monitor['metadata']['name']}", monitor["spec"]
        # Prometheus makes an underscore of other characters in the name of a pod's label.
        labels = {re.sub(r"[^a-zA-Z0-9_]", "_", each) for each in spec.get("podTargetLabels", [])}
        if taken := sorted(WHO - {"track"} & labels):
            yield f"{name}: podTargetLabels {', '.join(taken)} would let a pod report as another pod"
        for endpoint in spec.get("podMetricsEndpoints", []):
            kept = endpoint.get("metricRelabelings", [])
            rules = [*endpoint.get("relabelings", []), *kept]
            if endpoint.get("honorLabels"):
                # Some Prometheus installations override honorLabels, so the PodMonitor also copies back.
                rules = [rule for rule in rules if not _copies_back(rule)]
                keeps = (rule.get("sourceLabels", []) for rule in kept if rule.get("action") == "keep")
                if not any("__name__" in labels for labels in keeps):
                    yield f"{name}: honorLabels would let a pod report as another pod; keep named series only"
            if any(_says_who(rule) for rule in rules):
                yield f"{name}: a relabeling sets {', '.join(sorted(WHO))}, so a pod could report as another"


POLICIES = (
    digest_only,
    backends,
    public_paths,
    fixed_fields,
    autoscaler_owns_replicas,
    on_a_gpu,
    probed_and_drained,
    bounded,
    restricted,
    denied_by_default,
    segmented,
    log_outlives,
    pods_pose_as_none,
)


def _unsafe(container: dict[str, Any], of_pod: dict[str, Any]) -> Iterator[str]:
    """Yield the fields of a container that give it rights or access to its node."""
    context = {"appArmorProfile": DEFAULT, **of_pod, **container.get("securityContext", {})}
    for key, value in REQUIRED.items():
        if context.get(key) != value:
            yield f"securityContext.{key} must be {json.dumps(value)}"
    if not context.get("runAsUser"):
        yield "securityContext.runAsUser must be a number other than 0"
    yield from (f"securityContext.{key} must not be set" for key in UNSET if context.get(key))
    if any(port.get("hostPort") for port in container.get("ports", [])):
        yield "ports must have no hostPort"
    handlers = {key: container.get(key, {}) for key in ("livenessProbe", "readinessProbe", "startupProbe")}
    for name, handler in {**handlers, **container.get("lifecycle", {})}.items():
        if any("host" in handler.get(action, {}) for action in ("httpGet", "tcpSocket")):
            yield f"{name} must not set host, because the node would send requests to it"


def _near_the_node(pod: dict[str, Any]) -> Iterator[str]:
    """Yield the fields of a pod's spec that give it access to its node or to the API server."""
    yield from (f"{key} must not be true" for key in ("hostNetwork", "hostPID", "hostIPC") if pod.get(key))
    if pod.get("nodeName"):
        yield "nodeName must not be set, because it bypasses the scheduler and the nodes' taints"
    for key in (str(toleration.get("key", "")) for toleration in pod.get("tolerations", [])):
        if not key or key.startswith("node-role.kubernetes.io/"):
            yield f"tolerations must name a taint of the pod's own node pool, not {key or 'all taints'}"
    if pod.get("automountServiceAccountToken") is not False:
        yield "automountServiceAccountToken must be false"
    for volume in pod.get("volumes", []):
        if more := sorted(volume.keys() - VOLUMES - {"name"}):
            yield f"volume {volume['name']} is {', '.join(more)}, must be one of {', '.join(sorted(VOLUMES))}"
        if any("serviceAccountToken" in source for source in volume.get("projected", {}).get("sources", [])):
            yield f"volume {volume['name']} must have no serviceAccountToken"


def _wide(side: str, peer: dict[str, Any]) -> Iterator[str]:
    """Yield why a peer of a NetworkPolicy's rule is too wide.

    A range of addresses for egress must leave out the private networks that it contains; one that lies inside
    a private network names that network on purpose.
    """
    selector = peer.get("namespaceSelector")
    if not peer or (selector is not None and not selector.get("matchLabels")):
        yield "allows anywhere, must name peer and port"
    if block := peer.get("ipBlock"):
        cidr, left_out = ip_network(block["cidr"]), [ip_network(each) for each in block.get("except", [])]
        private = any(_within(cidr, net) for net in PRIVATE)
        if side == "ingress" and not private:
            yield f"from {cidr} comes from outside the cluster, must be private"
        for net in PRIVATE if side == "egress" and not private else ():
            if _within(net, cidr) and not any(_within(net, each) for each in left_out):
                yield f"to {cidr} must exclude {net} by `except`"


def _asks_dns(port: dict[str, Any]) -> bool:
    first = port.get("port")
    return isinstance(first, int) and first <= DNS_PORT <= port.get("endPort", first)


def _says_who(rule: dict[str, Any]) -> bool:
    """Return whether a relabeling may set a label that identifies a pod."""
    target = rule.get("targetLabel", "")
    return target in WHO or "$" in target or str(rule.get("action", "")).lower() == "labelmap"


def _copies_back(rule: dict[str, Any]) -> bool:
    """Return whether a relabeling only copies an `exported_` label back, which is what honorLabels does."""
    return rule.get("sourceLabels") == [f"exported_{rule.get('targetLabel')}"] and "replacement" not in rule


def _within(inner: Any, outer: Any) -> bool:
    return bool(inner.version == outer.version and inner.subnet_of(outer))


def _containers(manifests: list[Manifest]) -> Iterator[tuple[str, dict[str, Any], Workload]]:
    """Yield every container of every pod with its name in messages, and the workload of the pod."""
    for workload in workloads(manifests):
        for container in workload.every_container:
            yield f"{workload}/{container['name']}", container, workload


def _rules(manifests: list[Manifest]) -> Iterator[tuple[str, dict[str, Any]]]:
    for route in of("HTTPRoute", manifests):
        for rule in route["spec"]["rules"]:
            yield f"HTTPRoute {route['metadata']['name']}", rule
