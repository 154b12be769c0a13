"""Evaluates NetworkPolicies: which pods may connect to which, among the pods rendered with the policies."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from loop.delivery.workloads import Manifest, Workload, of, workloads

ANYWHERE, ANY_PORT = "anywhere", "any port"
SIDES = {"Ingress": ("ingress", "from"), "Egress": ("egress", "to")}


class Edge(NamedTuple):
    """One allowed connection: its source, its target and its port."""

    source: str
    target: str
    port: str  # protocol and port number, such as `TCP 3000`


def edges(manifests: list[Manifest]) -> set[Edge]:
    """Return every connection to or from a rendered pod that the NetworkPolicies allow.

    A pod is named after its workload, and a peer outside the rendered manifests after its selector. Between
    two rendered pods a connection needs both an egress and an ingress rule; for a peer outside only the rules
    of the rendered pod are known. The semantics are Kubernetes':
    https://kubernetes.io/docs/concepts/services-networking/network-policies/.
    """
    world = _World.of(manifests)
    inside = {
        Edge(_meta(source, "name"), _meta(target, "name"), port)
        for source in world.pods
        for target in world.pods
        for port in world.ports(target)
        if world.allows(source, "Egress", target, port) and world.allows(target, "Ingress", source, port)
    }
    out = {Edge(_meta(pod, "name"), *to) for pod in world.pods for to in world.outside(pod, "Egress")}
    into = {
        Edge(who, _meta(pod, "name"), at) for pod in world.pods for who, at in world.outside(pod, "Ingress")
    }
    return inside | out | into


@dataclass(frozen=True)
class _World:
    """The rendered pods, the NetworkPolicies, and the labels of the rendered namespaces."""

    pods: list[Workload]
    policies: list[Manifest]
    namespaces: dict[str, dict[str, str]]

    @classmethod
    def of(cls, manifests: list[Manifest]) -> "_World":
        spaces = [each["metadata"] for each in of("Namespace", manifests)]
        labels = {
            each["name"]: {**each.get("labels", {}), "kubernetes.io/metadata.name": each["name"]}
            for each in spaces
        }
        return cls(workloads(manifests), of("NetworkPolicy", manifests), labels)

    def rules(self, pod: Workload, side: str) -> list[dict[str, Any]] | None:
        """Return the rules on a pod's side of the policies that select it; None if no policy does."""
        binding = [
            policy["spec"]
            for policy in self.policies
            if policy["metadata"].get("namespace", "") == _meta(pod, "namespace")
            and side in _sides(policy["spec"])
            and _matches(policy["spec"]["podSelector"], pod.template["metadata"]["labels"])
        ]
        return [rule for spec in binding for rule in spec.get(SIDES[side][0], [])] if binding else None

    def allows(self, pod: Workload, side: str, other: Workload, port: str) -> bool:
        """Return whether a pod's policies allow ingress from the other pod, or egress to it, on a port."""
        if (rules := self.rules(pod, side)) is None:
            return True
        target = pod if side == "Ingress" else other
        return any(
            {port, ANY_PORT} & set(_ports(rule, target))
            and self._selects(rule, side, _meta(pod, "namespace"), other)
            for rule in rules
        )

    def outside(self, pod: Workload, side: str) -> Iterator[tuple[str, str]]:
        """Yield each allowed peer outside the rendered pods, with the port of the connection's target."""
        if (rules := self.rules(pod, side)) is None:
            yield ANYWHERE, ANY_PORT
        for rule in rules or []:
            for peer in rule.get(SIDES[side][1]) or [{}]:
                if name := self._outsider(peer):
                    yield from ((name, port) for port in _ports(rule, pod if side == "Ingress" else None))

    def ports(self, pod: Workload) -> set[str]:
        """Return the ports to test on a pod: those it declares, those that rules name, and "any port"."""
        rules = [rule for side in SIDES for each in self.pods for rule in self.rules(each, side) or []]
        return {ANY_PORT, *_declared(pod).values(), *(port for rule in rules for port in _ports(rule, pod))}

    def _selects(self, rule: dict[str, Any], side: str, namespace: str, pod: Workload) -> bool:
        """Return whether a peer of a rule matches a pod; `namespace` is that of the rule's policy."""
        for peer in rule.get(SIDES[side][1]) or [{}]:
            there = _meta(pod, "namespace") == namespace
            if "namespaceSelector" in peer:
                there = _matches(peer["namespaceSelector"], self.namespaces.get(_meta(pod, "namespace"), {}))
            labels = pod.template["metadata"]["labels"]
            here = "ipBlock" not in peer and _matches(peer.get("podSelector", {}), labels)
            if not peer or (there and here):
                return True
        return False

    def _outsider(self, peer: dict[str, Any]) -> str | None:
        """Return a name for a peer outside the rendered pods; None if the peer selects rendered pods only."""
        if not peer:
            return ANYWHERE
        if block := peer.get("ipBlock"):
            return " except ".join(
                [block["cidr"], *([", ".join(block["except"])] if "except" in block else [])]
            )
        selector, known = peer.get("namespaceSelector"), self.namespaces.values()
        if selector is None or (selector and any(_matches(selector, labels) for labels in known)):
            return None
        return "/".join(_told(each) for each in (selector, peer.get("podSelector")) if each) or ANYWHERE


def _sides(spec: dict[str, Any]) -> list[str]:
    """Return a policy's types; by default Kubernetes takes Ingress, and Egress if egress rules exist."""
    return list(spec.get("policyTypes") or ["Ingress", *(["Egress"] if spec.get("egress") else [])])


def _meta(pod: Workload, key: str) -> str:
    """Return the name or the namespace of a pod's workload."""
    return str(pod.manifest["metadata"].get(key, ""))


def _matches(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items()) and all(
        _holds(expression, labels) for expression in selector.get("matchExpressions", [])
    )


def _holds(expression: dict[str, Any], labels: dict[str, str]) -> bool:
    value, values = labels.get(expression["key"]), expression.get("values", [])
    held = {
        "In": value in values,
        "NotIn": value not in values,
        "Exists": value is not None,
        "DoesNotExist": value is None,
    }
    return held[expression["operator"]]


def _told(selector: dict[str, Any]) -> str:
    """Return the label values of a selector, or its text if it is more than plain labels."""
    return (
        ", ".join(selector["matchLabels"].values()) if selector.keys() == {"matchLabels"} else str(selector)
    )


def _ports(rule: dict[str, Any], target: Workload | None) -> list[str]:
    """Return the ports of a rule, with named ports resolved on the target; a port range is "any port"."""
    if not rule.get("ports") or any("port" not in port or "endPort" in port for port in rule["ports"]):
        return [ANY_PORT]
    declared = _declared(target) if target else {}
    return [
        declared.get(str(port.get("port")), f"{port.get('protocol', 'TCP')} {port['port']}")
        for port in rule["ports"]
    ]


def _declared(pod: Workload) -> dict[str, str]:
    return {
        str(port.get("name", port["containerPort"])): f"{port.get('protocol', 'TCP')} {port['containerPort']}"
        for container in pod.containers
        for port in container.get("ports", [])
    }
