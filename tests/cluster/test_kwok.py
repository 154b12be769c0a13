"""kwok's fake nodes look like the nodes that production needs, and get no other pods."""

import kwok
import pytest


@pytest.mark.parametrize("pool", kwok.POOLS)
def test_fake_nodes_are_tainted(pool: str) -> None:
    """A pod runs on a fake node only if it tolerates kwok's taint."""
    taints = kwok.node(pool, 0)["spec"]["taints"]
    assert {"key": "kwok.x-k8s.io/node", "value": "fake", "effect": "NoSchedule"} in taints


def test_a_fake_gpu_node_fits_the_gpu_component() -> None:
    """A fake node of the GPU pool has the label, the taint and the GPU that the overlays name."""
    node = kwok.node("gpu", 1)
    assert node["metadata"]["labels"]["accelerator"] == "nvidia-a100"
    assert node["status"]["allocatable"]["nvidia.com/gpu"] == "1"
    assert {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"} in node["spec"]["taints"]
