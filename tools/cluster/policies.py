"""Enforces the cluster's NetworkPolicies by one nftables table. It is for tests, not a security boundary.

The bridge plugin itself enforces no NetworkPolicy. A policy isolates a pod and lists its allowed peers, so
each isolated pod gets a chain that accepts the listed peers and drops all other traffic. Traffic from the
node itself is accepted, as in other networks, because the kubelet must probe pods; so Envoy and Prometheus,
which run on the node, reach every pod. Traffic from a pod to the node follows the pod's policies: a process
on the node counts as a pod with the namespace and labels of the EndpointSlice that names it. If a policy
isolates such a process, only the listed pods reach it.
"""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import discovery
import process
from discovery import Thing, runs_here, selects
from place import NODE, PODS, Place, output
from place import place as here

TABLE = "loop_policies"
HOOKS = ("forward", "input")  # traffic between pods and out of the cluster; traffic from pods to the node
PATHS = (
    "/apis/networking.k8s.io/v1/networkpolicies",
    "/api/v1/pods",
    "/api/v1/namespaces",
    "/apis/discovery.k8s.io/v1/endpointslices",
)
EVERYBODY = [{"namespaceSelector": {}}, {"ipBlock": {"cidr": "0.0.0.0/0"}}]
EVERY_PORT = [{"protocol": "TCP"}, {"protocol": "UDP"}, {"protocol": "SCTP"}]
DIRECTIONS = (("Egress", "saddr"), ("Ingress", "daddr"))
Labels = dict[str, dict[str, str]]  # {namespace: its labels}
Port = tuple[str, str]  # protocol, and number or range in the form that nft uses


@dataclass(frozen=True)
class End:
    """One end of a connection: a pod, or a process on the node that takes the place of a pod."""

    address: str
    namespace: str
    around: dict[str, str]  # labels of the end's namespace
    labels: dict[str, str]
    ports: dict[str, Port]  # {name: port}
    only: bool = False  # whether this end has only `ports`, as a process that shares the node's address

    def port(self, wanted: Thing) -> list[Port]:
        """Return the ports of this end that one entry of a policy's `ports` means."""
        protocol, port = wanted.get("protocol", "TCP").lower(), wanted.get("port")
        if isinstance(port, str):
            found = [self.ports[port]] if port in self.ports else []
        elif port is None:
            found = list(self.ports.values()) if self.only else [(protocol, "0-65535")]
        else:
            found = [(protocol, f"{port}-{wanted['endPort']}" if "endPort" in wanted else str(port))]
        return [one for one in found if one[0] == protocol and (not self.only or one in self.ports.values())]


def ends(pods: list[Thing], slices: list[Thing], spaces: Labels) -> Iterator[End]:
    """Yield the pods with an address on this node, and the processes on it that EndpointSlices name."""

    def end(thing: Thing, address: str, ports: list[Thing], number: str, *, only: bool = False) -> End:
        meta = thing["metadata"]
        named = {
            port.get("name") or "": (port.get("protocol", "TCP").lower(), str(port[number])) for port in ports
        }
        around, labels = spaces.get(meta["namespace"], {}), meta.get("labels", {})
        return End(address, meta["namespace"], around, labels, named, only)

    for pod in filter(runs_here, pods):
        ports = [port for container in pod["spec"]["containers"] for port in container.get("ports", [])]
        yield end(pod, pod["status"]["podIP"], ports, "containerPort")
    for part in slices:
        if any(NODE in endpoint["addresses"] for endpoint in part.get("endpoints") or []):
            yield end(part, NODE, part["ports"], "port", only=True)


def rules(policies: list[Thing], ends: list[End]) -> str:
    """Return the nftables table, with a chain for each direction in which a policy isolates a pod."""
    chains, jumps = [], []

    def add(name: str, lines: list[str], match: str) -> None:
        chains.append(_chain(name, [*lines, "drop"]))
        jumps.append(f"ip {match} jump {name}")

    for end in sorted(ends, key=lambda end: (end.only, end.address)):
        near = [policy["spec"] for policy in policies if policy["metadata"]["namespace"] == end.namespace]
        mine = [spec for spec in near if selects(spec.get("podSelector") or {}, end.labels)]
        for direction, match in (("Ingress", "daddr"),) if end.only else DIRECTIONS:
            specs = [spec for spec in mine if direction in _types(spec)]
            lines = sorted({line for spec in specs for line in _allow(spec, direction, end, ends)})
            if specs and end.only:
                lines.insert(0, f"ip saddr != {PODS} return")
                for protocol, port in sorted(end.ports.values()):
                    add(f"ingress_node_{protocol}_{port}", lines, f"daddr {NODE} {protocol} dport {port}")
            elif specs:
                name = f"{direction.lower()}_{end.address.replace('.', '_')}"
                add(name, lines, f"{match} {end.address}")
    chains.append(_chain("edges", ["ct state established,related accept", *jumps]))
    accept = "type filter hook {} priority -5; policy accept;"
    chains += [_chain(hook, [accept.format(hook), "jump edges"]) for hook in HOOKS]
    return f"table ip {TABLE} {{}}\ndelete table ip {TABLE}\ntable ip {TABLE} {{\n{''.join(chains)}}}\n"


def _chain(name: str, lines: list[str]) -> str:
    return "".join([f"  chain {name} {{\n", *(f"    {line}\n" for line in lines), "  }\n"])


def _types(spec: Thing) -> list[str]:
    return spec.get("policyTypes") or ["Ingress", *(["Egress"] if "egress" in spec else [])]


def _allow(spec: Thing, direction: str, end: End, ends: list[End]) -> Iterator[str]:
    """Yield the rules that accept one policy's peers; `return` continues with the other end's chain."""
    inward = direction == "Ingress"
    for rule in spec.get(direction.lower()) or []:
        ports = rule.get("ports") or EVERY_PORT
        for peer in rule.get("from" if inward else "to") or EVERYBODY:
            for where, other in _matches(peer, "saddr" if inward else "daddr", end, ends):
                for port in (one for wanted in ports for one in (end if inward else other).port(wanted)):
                    yield f"{where} {port[0]} dport {port[1]} return"


def _matches(peer: Thing, match: str, end: End, ends: list[End]) -> Iterator[tuple[str, End]]:
    """Yield for each peer of a policy the nft expression that matches it, and the end that has the ports."""
    if "ipBlock" in peer:
        block = peer["ipBlock"]
        without = "".join(f"ip {match} != {one} " for one in block.get("except", []))
        yield f"{without}ip {match} {block['cidr']}", End("", "", {}, {}, {})
        return
    for other in ends:
        if "namespaceSelector" in peer:
            near = selects(peer["namespaceSelector"] or {}, other.around)
        else:
            near = other.namespace == end.namespace
        if near and selects(peer.get("podSelector") or {}, other.labels):
            yield f"ip {match} {other.address}", other


def start(place: Place) -> None:
    """Start the process that follows the cluster's policies, and wait until the first table exists."""
    exists = partial(output, "nft", "list", "table", "ip", TABLE, env=process.environment(place))
    process.start(place, "policies", [sys.executable, Path(__file__)], ready=exists)


def apply(text: str) -> None:
    """Replace the table by nft, which applies it atomically; the log has the reason if nft rejects it."""
    done = subprocess.run(["nft", "-f", "-"], input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stderr, text, file=sys.stderr, flush=True)


def follow(place: Place) -> None:
    """Update the table after each change of the cluster's policies, until the process is killed."""
    before = ""
    for policies, pods, namespaces, slices in discovery.changes(place, *PATHS):
        around = {one["metadata"]["name"]: one["metadata"].get("labels", {}) for one in namespaces}
        text = rules(policies, [*ends(pods, slices, around)])
        if text != before:
            apply(text)
            before = text


if __name__ == "__main__":
    follow(here())
