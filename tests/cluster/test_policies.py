"""NetworkPolicies become rules of nft. The end-to-end tests show on a real node that packets follow them.

To see them: `make cluster`, then `nsenter --net=/run/netns/loop-cluster nft list table ip loop_policies`.
"""

import re
from typing import Any

import pytest
from place import NODE, PODS
from policies import ends, rules

pytestmark = pytest.mark.sample

SPACES = {"shop": {"tier": "serving"}, "edge": {"tier": "gateway"}, "kube-system": {}}
SERVING, CLIENT = "10.244.0.5", "10.244.0.6"


def pod(address: str, namespace: str, app: str, phase: str = "Running") -> dict[str, Any]:
    container = {"ports": [{"name": "http", "containerPort": 3000}]}
    return {
        "metadata": {"namespace": namespace, "labels": {"app": app}},
        "spec": {"containers": [container]},
        "status": {"podIP": address, "phase": phase},
    }


def dns() -> dict[str, Any]:
    return {
        "metadata": {"namespace": "kube-system", "labels": {"k8s-app": "kube-dns"}},
        "ports": [{"name": "dns", "protocol": "UDP", "port": 53}],
        "endpoints": [{"addresses": [NODE]}],
    }


def policy(namespace: str = "shop", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"namespace": namespace}, "spec": {"podSelector": {}, **spec}}


def chains(*policies: dict[str, Any]) -> dict[str, list[str]]:
    """Return each chain's lines for a serving pod in `shop`, a client in `edge`, and DNS on the node."""
    things = [pod(SERVING, "shop", "serving"), pod(CLIENT, "edge", "client")]
    text = rules(list(policies), [*ends(things, [dns()], SPACES)])
    found = re.findall(r"chain (\w+) \{\n(.*?)\n  \}", text, re.DOTALL)
    return {name: [line.strip() for line in body.splitlines()] for name, body in found}


def test_a_pod_without_a_policy_is_not_restricted() -> None:
    """Without a policy there is no rule for any pod."""
    assert chains()["edges"] == ["ct state established,related accept"]


def test_default_deny_isolates_only_its_namespace() -> None:
    """A default deny drops all traffic of its namespace's pods, and does not touch other namespaces."""
    found = chains(policy(policyTypes=["Ingress", "Egress"]))
    assert found["ingress_10_244_0_5"] == found["egress_10_244_0_5"] == ["drop"]
    assert not any(CLIENT in line for line in found["edges"])


def test_an_ingress_rule_has_the_peers_address_and_the_pods_port() -> None:
    """A peer becomes its address, and a port's name becomes the number in the isolated pod."""
    peer = {"namespaceSelector": {"matchLabels": {"tier": "gateway"}}, "podSelector": {}}
    found = chains(policy(ingress=[{"from": [peer], "ports": [{"port": "http"}]}]))
    assert found["ingress_10_244_0_5"] == [f"ip saddr {CLIENT} tcp dport 3000 return", "drop"]
    assert "egress_10_244_0_5" not in found


def test_a_pod_selector_alone_selects_only_its_namespace() -> None:
    """Without a namespaceSelector, a pod of another namespace is not a peer, whatever its labels."""
    found = chains(policy(ingress=[{"from": [{"podSelector": {"matchLabels": {"app": "client"}}}]}]))
    assert found["ingress_10_244_0_5"] == ["drop"]


def test_egress_to_a_process_on_the_node_uses_its_endpointslice() -> None:
    """A rule for a process on the node opens only the ports that the process' EndpointSlice names."""
    peer = {"namespaceSelector": {}, "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}
    ports = [{"port": 53, "protocol": "UDP"}, {"port": 6443}]
    found = chains(policy(policyTypes=["Egress"], egress=[{"to": [peer], "ports": ports}]))
    assert found["egress_10_244_0_5"] == [f"ip daddr {NODE} udp dport 53 return", "drop"]


def test_a_process_on_the_node_can_be_isolated_from_pods() -> None:
    """Only listed pods reach an isolated process on the node; other ports, node and host stay open."""
    peer = {"namespaceSelector": {"matchLabels": {"tier": "gateway"}}}
    found = chains(
        policy("kube-system", ingress=[{"from": [peer], "ports": [{"port": 53, "protocol": "UDP"}]}])
    )
    first = f"ip saddr != {PODS} return"
    assert found["ingress_node_udp_53"] == [first, f"ip saddr {CLIENT} udp dport 53 return", "drop"]
    assert found["edges"][1:] == [f"ip daddr {NODE} udp dport 53 jump ingress_node_udp_53"]


def test_an_address_block_excludes_its_exceptions() -> None:
    """An address block's exceptions come before it in the rule, and a range of ports has nft's form."""
    block = {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}
    rule = {"to": [{"ipBlock": block}], "ports": [{"port": 440, "endPort": 443}]}
    found = chains(policy(policyTypes=["Egress"], egress=[rule]))
    line = "ip daddr != 10.0.0.0/8 ip daddr 0.0.0.0/0 tcp dport 440-443 return"
    assert found["egress_10_244_0_5"] == [line, "drop"]


@pytest.mark.parametrize(("address", "phase"), [("10.244.0.7", "Succeeded"), ("10.245.0.7", "Running")])
def test_an_ended_or_fake_pod_has_no_rules(address: str, phase: str) -> None:
    """A pod that has ended, or is fake, has no rules, because its address may now belong to another pod."""
    assert not [*ends([pod(address, "shop", "serving", phase)], [], SPACES)]


def test_the_table_is_replaced_in_one_transaction() -> None:
    """One file, which nft runs as one transaction, deletes the old table and creates the new one."""
    text = rules([], [])
    assert text.startswith(
        "table ip loop_policies {}\ndelete table ip loop_policies\ntable ip loop_policies {"
    )
