"""NetworkPolicies as rules; that packets keep to them, the end-to-end tests show on a real node.

By hand: `make cluster`, then `nsenter --net=/run/netns/loop-cluster nft list table ip loop_policies`.
"""

import re
from typing import Any

import pytest
from place import NODE, PODS
from policies import node_end, pod_end, rules

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
    """Lines by chain, for a serving pod in `shop`, a client in `edge`, and DNS on the node."""
    things = [pod(SERVING, "shop", "serving"), pod(CLIENT, "edge", "client")]
    ends = [*(pod_end(thing, SPACES) for thing in things), node_end(dns(), SPACES)]
    text = rules(list(policies), [end for end in ends if end])
    found = re.findall(r"chain (\w+) \{\n(.*?)\n  \}", text, re.DOTALL)
    return {name: [line.strip() for line in body.splitlines()] for name, body in found}


def test_a_pod_without_a_policy_is_let_alone() -> None:
    """No policy, no chain but the hooks that lead nowhere."""
    assert chains()["edges"] == ["ct state established,related accept"]


def test_default_deny_isolates_the_namespace_and_no_other() -> None:
    """Both directions of the pod drop everything; the pod of another namespace is not named."""
    found = chains(policy(policyTypes=["Ingress", "Egress"]))
    assert found["ingress_10_244_0_5"] == found["egress_10_244_0_5"] == ["drop"]
    assert not any(CLIENT in line for line in found["edges"])


def test_an_ingress_rule_names_its_peers_addresses_and_the_pods_own_port() -> None:
    """A port by name is the isolated pod's; a peer by namespace and labels is its address."""
    peer = {"namespaceSelector": {"matchLabels": {"tier": "gateway"}}, "podSelector": {}}
    found = chains(policy(ingress=[{"from": [peer], "ports": [{"port": "http"}]}]))
    assert found["ingress_10_244_0_5"] == [f"ip saddr {CLIENT} tcp dport 3000 return", "drop"]
    assert "egress_10_244_0_5" not in found


def test_a_pod_selector_alone_stays_in_the_namespace() -> None:
    """Without a namespaceSelector a pod of another namespace is no peer, whatever its labels."""
    found = chains(policy(ingress=[{"from": [{"podSelector": {"matchLabels": {"app": "client"}}}]}]))
    assert found["ingress_10_244_0_5"] == ["drop"]


def test_a_process_on_the_node_is_a_pod_of_its_endpointslice() -> None:
    """Towards the node, only the ports that the slice names are opened."""
    peer = {"namespaceSelector": {}, "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}
    ports = [{"port": 53, "protocol": "UDP"}, {"port": 6443}]
    found = chains(policy(policyTypes=["Egress"], egress=[{"to": [peer], "ports": ports}]))
    assert found["egress_10_244_0_5"] == [f"ip daddr {NODE} udp dport 53 return", "drop"]


def test_a_process_on_the_node_can_be_isolated_from_pods() -> None:
    """Only the listed pods reach its port; the node itself, this host and other ports are let through."""
    peer = {"namespaceSelector": {"matchLabels": {"tier": "gateway"}}}
    found = chains(
        policy("kube-system", ingress=[{"from": [peer], "ports": [{"port": 53, "protocol": "UDP"}]}])
    )
    first = f"ip saddr != {PODS} return"
    assert found["ingress_node_udp_53"] == [first, f"ip saddr {CLIENT} udp dport 53 return", "drop"]
    assert found["edges"][1:] == [f"ip daddr {NODE} udp dport 53 jump ingress_node_udp_53"]


def test_a_block_leaves_out_its_exceptions() -> None:
    """The exceptions stand before the block, the range of ports as nft writes it."""
    block = {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}
    rule = {"to": [{"ipBlock": block}], "ports": [{"port": 440, "endPort": 443}]}
    found = chains(policy(policyTypes=["Egress"], egress=[rule]))
    line = "ip daddr != 10.0.0.0/8 ip daddr 0.0.0.0/0 tcp dport 440-443 return"
    assert found["egress_10_244_0_5"] == [line, "drop"]


@pytest.mark.parametrize(("address", "phase"), [("10.244.0.7", "Succeeded"), ("10.245.0.7", "Running")])
def test_a_pod_that_is_over_or_fake_is_no_end(address: str, phase: str) -> None:
    """A pod that has ended, or is fake, is left out, because its address may now belong to another pod."""
    assert pod_end(pod(address, "shop", "serving", phase), SPACES) is None


def test_the_table_replaces_the_one_before_at_once() -> None:
    """A file is one transaction for nft: made when missing, deleted, made anew."""
    text = rules([], [])
    assert text.startswith(
        "table ip loop_policies {}\ndelete table ip loop_policies\ntable ip loop_policies {"
    )
