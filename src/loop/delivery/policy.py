"""What every rendered manifest must keep to. Each policy yields its breaches, as sentences."""

import re
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from typing import Any

from loop.delivery.network import ANY_PORT, ANYWHERE, edges, wide
from loop.delivery.workloads import Manifest, of, workloads

Policy = Callable[[list[Manifest]], Iterator[str]]
PINNED = re.compile(r"(?:[^/@]+/)*[^/@:]+@sha256:[0-9a-f]{64}")
GPU = "nvidia.com/gpu"
LOG = "PREDICTION_LOG_DIR"
# What callers need, and the same with a slash at its end: kustomize/components/route.
PUBLIC = tuple(
    f"{path}{slash}"
    for path in ("/predict", "/v1/embeddings", "/health", "/openapi.json")
    for slash in ("", "/")
)
FILTERS = ("RequestHeaderModifier", "ResponseHeaderModifier")  # of a route: they lead calls nowhere else
RELABELINGS = ("relabelings", "metricRelabelings")
WHO = {"namespace", "pod", "container", "track", "job"}  # labels by which judge and rules know a pod
KEPT = {"Prune=false", "Delete=false"}
LABEL = re.compile(r"metadata\.labels\['(.+)'\]")
# Pod Security Standards, "restricted": what a pod may mount. Anything else may lead to the node.
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
UNSET = ("privileged", "procMount", "seLinuxOptions", "sysctls", "windowsOptions")  # of a security context
PRIVATE = [  # what lies behind a way out to the whole internet, the cloud's metadata server included
    ip_network(cidr)
    for cidr in (
        "10.0.0.0/8",
        "100.64.0.0/10",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "fc00::/7",
        "fe80::/10",
    )
]
DNS = {"kubernetes.io/metadata.name": "kube-system"}, {"k8s-app": "kube-dns"}


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
    """A route writes out group, kind and matches: left to defaults, Argo CD sees a difference for ever."""
    for name, rule in _rules(manifests):
        if not rule.get("matches"):
            yield f"{name}: a rule must say its matches"
        for backend in rule.get("backendRefs", []):
            if (backend.get("group"), backend.get("kind")) != ("", "Service"):
                yield f'{name}: backendRef {backend.get("name")} must say group: "" and kind: Service'
            if "namespace" in backend:
                yield f"{name}: backendRef {backend.get('name')} must name no other namespace"


def public_paths(manifests: list[Manifest]) -> Iterator[str]:
    """A route lets callers reach what they need, path by path; metrics and probes are the cluster's own."""
    for name, rule in _rules(manifests):
        for match in rule.get("matches", []):
            path = match.get("path", {})
            if path.get("type") != "Exact" or path.get("value") not in PUBLIC:
                found = f"{path.get('type', 'PathPrefix')} {path.get('value', '/')}"
                yield f"{name}: a rule matches {found}, must match Exact {', '.join(PUBLIC)} only"
        for each in [rule, *rule.get("backendRefs", [])]:
            for kind in (one.get("type") for one in each.get("filters", [])):
                if kind not in FILTERS:
                    yield f"{name}: a filter {kind} leads elsewhere than to the paths and Services it names"


def behind_the_gateway(manifests: list[Manifest]) -> Iterator[str]:
    """Callers come through a route, so no Service has a port on the nodes or an address outside."""
    for service in of("Service", manifests):
        name, spec = service["metadata"]["name"], service["spec"]
        if (kind := spec.get("type", "ClusterIP")) != "ClusterIP":
            yield f"Service {name}: type is {kind}, must be ClusterIP"
        if spec.get("externalIPs"):
            yield f"Service {name}: must have no externalIPs"


def backends_exist(manifests: list[Manifest]) -> Iterator[str]:
    """A route names only Services that are rendered with it."""
    services = {service["metadata"]["name"] for service in of("Service", manifests)}
    for name, rule in _rules(manifests):
        for backend in rule.get("backendRefs", []):
            if backend.get("name") not in services:
                yield f"{name}: backendRef {backend.get('name')} names no Service that is rendered"


def autoscaler_owns_replicas(manifests: list[Manifest]) -> Iterator[str]:
    """What an autoscaler scales says no `replicas`, or each sync undoes it; what none scales says them."""
    scaled = {scaler["spec"]["scaleTargetRef"]["name"] for scaler in of("HorizontalPodAutoscaler", manifests)}
    for deployment in of("Deployment", manifests):
        name, says = deployment["metadata"]["name"], "replicas" in deployment["spec"]
        if says and name in scaled:
            yield f"Deployment {name}: has spec.replicas, which its HorizontalPodAutoscaler owns"
        if not says and name not in scaled:
            yield f"Deployment {name}: has neither spec.replicas nor a HorizontalPodAutoscaler"


def gpu_pool(manifests: list[Manifest]) -> Iterator[str]:
    """A GPU limit goes with the pool's toleration and nodeSelector, and with maxSurge 0: no GPU is spare."""
    for workload in workloads(manifests):
        if not _limits_gpu(workload.every_container):
            continue
        if not any(toleration.get("key") == GPU for toleration in workload.pod.get("tolerations", [])):
            yield f"{workload}: limits {GPU} without a toleration of {GPU}"
        if not workload.pod.get("nodeSelector"):
            yield f"{workload}: limits {GPU} without a nodeSelector"
        strategy = workload.manifest["spec"].get("strategy", {})
        if workload.stays and strategy.get("rollingUpdate", {}).get("maxSurge") != 0:
            yield f"{workload}: limits {GPU} with a maxSurge that is not 0"


def serves_on(manifests: list[Manifest]) -> Iterator[str]:
    """A track whose release was built for a GPU asks for one, and no other track does."""
    for workload in workloads(manifests):
        labels = workload.manifest["metadata"].get("labels", {})
        if "track" not in labels:
            continue
        asks, built = _limits_gpu(workload.containers), labels.get("device") == "cuda"
        if built and not asks:
            yield (
                f"{workload}: its release was built for a GPU, and it limits no {GPU}; list component gpu"
                " after release in its overlay, and not component small"
            )
        if asks and not built:
            yield (
                f"{workload}: limits {GPU}, and its release was built for the CPU; set"
                " `serve: {device: cuda}` in params.yaml and release again, or leave GPUs to component gpu"
            )


def _limits_gpu(containers: list[Manifest]) -> bool:
    """Whether one of them asks for a GPU."""
    return any(GPU in container.get("resources", {}).get("limits", {}) for container in containers)


def probed(manifests: list[Manifest]) -> Iterator[str]:
    """A container that stays says how to see that it is alive and, where it is called, that it is ready."""
    for workload in workloads(manifests):
        for container in workload.containers if workload.stays else ():
            wanted = ["readinessProbe"] if container.get("ports") else []
            for probe in [*wanted, "livenessProbe"]:
                if not container.get(probe):
                    yield f"{workload}/{container['name']}: has no {probe}"


def drained(manifests: list[Manifest]) -> Iterator[str]:
    """A container that is called goes on for a while once it is to stop: callers learn of that later."""
    for workload in workloads(manifests):
        for container in workload.containers:
            wait = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
            if container.get("ports") and not 0 < wait < workload.pod.get(
                "terminationGracePeriodSeconds", 30
            ):
                yield f"{workload}/{container['name']}: must sleep in preStop, for less than its grace period"


def evictable(manifests: list[Manifest]) -> Iterator[str]:
    """A pod that is not ready may always leave its node: broken pods must not hold up a drain."""
    for budget in of("PodDisruptionBudget", manifests):
        if (kind := budget["spec"].get("unhealthyPodEvictionPolicy")) != "AlwaysAllow":
            name = budget["metadata"]["name"]
            yield (
                f"PodDisruptionBudget {name}: unhealthyPodEvictionPolicy is {kind}, must be AlwaysAllow, "
                "or pods that are not ready hold up the drain of their node"
            )


def bounded(manifests: list[Manifest]) -> Iterator[str]:
    """Every container says what CPU and memory it asks for and is held to; a job, also how long."""
    for name, container in _containers(manifests):
        for bound in ("requests", "limits"):
            given = container.get("resources", {}).get(bound, {})
            for resource in ("cpu", "memory"):
                if resource not in given:
                    yield f"{name}: has no resources.{bound}.{resource}"
    for workload in workloads(manifests):
        spec = workload.manifest["spec"]
        if not workload.stays and "activeDeadlineSeconds" not in spec.get("jobTemplate", {}).get(
            "spec", spec
        ):
            yield f"{workload}: has no activeDeadlineSeconds"


def restricted(manifests: list[Manifest]) -> Iterator[str]:
    """Containers run as a numbered user without privileges, on a read-only root, without a way to the node.

    These are the rules of the Pod Security Standards' profile "restricted", with a read-only root and without
    a cluster token. argocd/admission.yaml has the cluster apply the same ones.
    """
    for workload in workloads(manifests):
        yield from (f"{workload}: {breach}" for breach in _near_the_node(workload.pod))
        for container in workload.every_container:
            context = {**workload.pod.get("securityContext", {}), **container.get("securityContext", {})}
            found = [*_unsafe(context), *_of_the_host(container)]
            yield from (f"{workload}/{container['name']}: {breach}" for breach in found)


def denied_by_default(manifests: list[Manifest]) -> Iterator[str]:
    """A namespace with pods has a NetworkPolicy that denies everything which no other one allows."""
    denied = {
        policy["metadata"].get("namespace", "")
        for policy in of("NetworkPolicy", manifests)
        if policy["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    }
    for workload in workloads(manifests):
        if workload.namespace not in denied:
            yield f"{workload}: its namespace has no NetworkPolicy that denies by default"


def segmented(manifests: list[Manifest]) -> Iterator[str]:
    """An edge that a NetworkPolicy allows names both ends and the port: none is open to all."""
    for edge in () if any(denied_by_default(manifests)) else sorted(edges(manifests)):
        if ANYWHERE in edge or ANY_PORT in edge:
            said = f"{edge.source} → {edge.target} at {edge.port}"
            yield f"NetworkPolicies allow {said}: must name both ends and the port"
    for policy in of("NetworkPolicy", manifests):
        name = f"NetworkPolicy {policy['metadata']['name']}"
        yield from (
            f"{name}: {side} is {what}, must name both ends and the port" for side, what in wide(policy)
        )
        for rule in policy["spec"].get("ingress", []):
            for cidr in (peer["ipBlock"]["cidr"] for peer in rule.get("from", []) if "ipBlock" in peer):
                if not any(_within(ip_network(cidr), net) for net in PRIVATE):
                    yield f"{name}: {cidr} may call in, must name both ends and the port, inside the cluster"
    for name, rule in _ways_out(manifests):
        for block in (peer["ipBlock"] for peer in rule.get("to", []) if "ipBlock" in peer):
            yield from (f"{name}: {block['cidr']} must except {net}" for net in _inside(block))


def resolved_by_the_cluster(manifests: list[Manifest]) -> Iterator[str]:
    """Pods ask only the cluster's DNS. Any other server would learn whatever a pod puts into a name."""
    wanted = {"namespaceSelector": {"matchLabels": DNS[0]}, "podSelector": {"matchLabels": DNS[1]}}
    for name, rule in _ways_out(manifests):
        if any(_has_port(port, 53) for port in rule.get("ports", [])) and rule.get("to") != [wanted]:
            yield f"{name}: port 53 must lead to the pods k8s-app=kube-dns of kube-system and nowhere else"


def log_outlives(manifests: list[Manifest]) -> Iterator[str]:
    """What writes a prediction log writes it to a claim that is rendered, and that no sync takes away."""
    kept = {
        claim["metadata"]["name"]
        for claim in of("PersistentVolumeClaim", manifests)
        if set(_options(claim)) >= KEPT
    }
    for workload in workloads(manifests):
        claims = {
            volume["name"]: volume.get("persistentVolumeClaim", {}).get("claimName")
            for volume in workload.pod.get("volumes", [])
        }
        for container in workload.containers:
            mounted = {
                each["mountPath"]: claims.get(each["name"]) for each in container.get("volumeMounts", [])
            }
            logs = [env.get("value") for env in container.get("env", []) if env["name"] == LOG]
            if any(mounted.get(log) not in kept for log in logs):
                wanted = " and ".join(sorted(KEPT))
                yield f"{workload}/{container['name']}: {LOG} is on no claim that is rendered with {wanted}"


def labels_known(manifests: list[Manifest]) -> Iterator[str]:
    """A pod that takes an argument from its labels has them: of a missing one the cluster makes nothing."""
    for workload in workloads(manifests):
        for container in workload.every_container:
            for env in container.get("env", []):
                path = env.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath", "")
                if (found := LABEL.fullmatch(path)) and not workload.labels.get(found[1]):
                    yield f"{workload}/{container['name']}: {env['name']} is of the label {found[1]}, not set"


def pods_pose_as_none(manifests: list[Manifest]) -> Iterator[str]:
    """A PodMonitor scrapes its own namespace only, and no rule of it lets a pod pose as another.

    It may honour labels only if it keeps nothing but series that it names, as the Pushgateway's.
    """
    for monitor in of("PodMonitor", manifests):
        name, spec = f"PodMonitor {monitor['metadata']['name']}", monitor["spec"]
        if spec.get("namespaceSelector"):
            yield f"{name}: must have no namespaceSelector: it would scrape other namespaces' pods"
        if taken := sorted(WHO - {"track"} & {_label(each) for each in spec.get("podTargetLabels", [])}):
            yield f"{name}: podTargetLabels {', '.join(taken)} let pods pose as others"
        for endpoint in spec.get("podMetricsEndpoints", []):
            rules = endpoint.get("metricRelabelings", [])
            named = any("__name__" in r.get("sourceLabels", []) and r.get("action") == "keep" for r in rules)
            honours = bool(endpoint.get("honorLabels"))
            every = [rule for key in RELABELINGS for rule in endpoint.get(key, [])]
            if any(_says_who(rule) and not (honours and _renames_back(rule)) for rule in every):
                yield f"{name}: a relabeling must not set {', '.join(sorted(WHO))}: pods would pose as others"
            if honours and not named:
                yield f"{name}: honorLabels lets pods pose as others"


POLICIES: tuple[Policy, ...] = (
    digest_only,
    weights_sum,
    explicit_backends,
    public_paths,
    behind_the_gateway,
    backends_exist,
    autoscaler_owns_replicas,
    gpu_pool,
    serves_on,
    probed,
    drained,
    evictable,
    bounded,
    restricted,
    denied_by_default,
    segmented,
    resolved_by_the_cluster,
    log_outlives,
    labels_known,
    pods_pose_as_none,
)


def _unsafe(context: dict[str, Any]) -> Iterator[str]:
    required = {"runAsNonRoot": True, "readOnlyRootFilesystem": True, "allowPrivilegeEscalation": False}
    for key, value in required.items():
        if context.get(key) is not value:
            yield f"securityContext.{key} must be {str(value).lower()}"
    if not context.get("runAsUser"):
        yield "securityContext.runAsUser must be a number other than 0"
    if context.get("capabilities") != {"drop": ["ALL"]}:
        yield "securityContext.capabilities must be drop: [ALL] and add nothing"
    if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "securityContext.seccompProfile.type must be RuntimeDefault"
    if context.get("appArmorProfile", {}).get("type", "RuntimeDefault") != "RuntimeDefault":
        yield "securityContext.appArmorProfile.type must be RuntimeDefault"
    yield from (f"securityContext.{key} must not be set" for key in UNSET if context.get(key))


def _near_the_node(pod: dict[str, Any]) -> Iterator[str]:
    """The parts of a pod's spec that lead to its node or to the API server."""
    yield from (f"{key} must not be true" for key in ("hostNetwork", "hostPID", "hostIPC") if pod.get(key))
    if pod.get("nodeName"):
        yield "nodeName must not be set: it goes round the scheduler, and so round the nodes' taints"
    for key in (str(toleration.get("key", "")) for toleration in pod.get("tolerations", [])):
        if not key or key.startswith("node-role.kubernetes.io/"):
            yield f"tolerations must name a taint of the pod's own pool, not {key or 'all'}"
    if pod.get("automountServiceAccountToken") is not False:
        yield "automountServiceAccountToken must be false"
    for volume in pod.get("volumes", []):
        if more := sorted(volume.keys() - VOLUMES - {"name"}):
            yield f"volume {volume['name']} is {', '.join(more)}, must be one of {', '.join(sorted(VOLUMES))}"
        if any("serviceAccountToken" in source for source in volume.get("projected", {}).get("sources", [])):
            yield f"volume {volume['name']} must have no serviceAccountToken"


def _of_the_host(container: dict[str, Any]) -> Iterator[str]:
    if any(port.get("hostPort") for port in container.get("ports", [])):
        yield "ports must have no hostPort"
    handlers = {key: container.get(key, {}) for key in ("livenessProbe", "readinessProbe", "startupProbe")}
    for name, handler in {**handlers, **container.get("lifecycle", {})}.items():
        if any("host" in handler.get(action, {}) for action in ("httpGet", "tcpSocket")):
            yield f"{name} must name no host: the node would call it"


def _ways_out(manifests: list[Manifest]) -> Iterator[tuple[str, dict[str, Any]]]:
    for policy in of("NetworkPolicy", manifests):
        for rule in policy["spec"].get("egress", []):
            yield f"NetworkPolicy {policy['metadata']['name']}", rule


def _has_port(port: dict[str, Any], number: int) -> bool:
    """Whether an entry of a NetworkPolicy's ports is a number, or a range around it."""
    first = port.get("port")
    return isinstance(first, int) and first <= number <= port.get("endPort", first)


def _inside(block: dict[str, Any]) -> Iterator[Any]:
    """The private networks that a block contains. A block inside a private network is meant for it."""
    cidr, left_out = ip_network(block["cidr"]), [ip_network(each) for each in block.get("except", [])]
    for net in (net for net in PRIVATE if net.version == cidr.version):
        covered = any(net.subnet_of(each) for each in left_out)  # type: ignore[arg-type]
        if net != cidr and net.subnet_of(cidr) and not covered:  # type: ignore[arg-type]
            yield net


def _label(name: str) -> str:
    """The name that Prometheus gives a pod's label."""
    return re.sub(r"[^a-zA-Z0-9_]", "_", name)


def _says_who(rule: dict[str, Any]) -> bool:
    """Whether a relabeling may set a label by which a pod is known."""
    target = rule.get("targetLabel", "")
    return target in WHO or "$" in target or str(rule.get("action", "")).lower() == "labelmap"


def _renames_back(rule: dict[str, Any]) -> bool:
    """Whether a relabeling only does what honorLabels does, for a Prometheus that overrides that."""
    return rule.get("sourceLabels") == [f"exported_{rule.get('targetLabel')}"] and "replacement" not in rule


def _within(inner: Any, outer: Any) -> bool:
    return bool(inner.version == outer.version and inner.subnet_of(outer))


def _options(manifest: Manifest) -> list[str]:
    """What a manifest asks of Argo CD."""
    annotations = manifest["metadata"].get("annotations", {})
    return str(annotations.get("argocd.argoproj.io/sync-options", "")).split(",")


def _containers(manifests: list[Manifest]) -> Iterator[tuple[str, dict[str, Any]]]:
    for workload in workloads(manifests):
        for container in workload.every_container:
            yield f"{workload}/{container['name']}", container


def _rules(manifests: list[Manifest]) -> Iterator[tuple[str, dict[str, Any]]]:
    for route in of("HTTPRoute", manifests):
        for rule in route["spec"]["rules"]:
            yield f"HTTPRoute {route['metadata']['name']}", rule
