"""Every policy has a manifest that it rejects."""

from copy import deepcopy

import pytest

from loop.delivery.policy import POLICIES, breaches

DIGEST = "registry.example.com:5000/team/model@sha256:" + "a" * 64
CONTAINER = {
    "name": "bento",
    "image": DIGEST,
    "readinessProbe": {"httpGet": {}},
    "livenessProbe": {"httpGet": {}},
    "resources": {
        "requests": {"cpu": "1", "memory": "1Gi"},
        "limits": {"cpu": "1", "memory": "1Gi", "nvidia.com/gpu": 1},
    },
    "securityContext": {
        "runAsNonRoot": True,
        "runAsUser": 1034,
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    },
}
SOUND = {
    "Deployment": {
        "metadata": {"name": "serving", "namespace": "model-dev"},
        "spec": {
            "strategy": {"rollingUpdate": {"maxSurge": 0}},
            "template": {
                "spec": {
                    "automountServiceAccountToken": False,
                    "nodeSelector": {"accelerator": "any"},
                    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
                    "containers": [CONTAINER],
                }
            },
        },
    },
    "HorizontalPodAutoscaler": {
        "metadata": {"name": "serving"},
        "spec": {"scaleTargetRef": {"name": "serving"}},
    },
    "Service": {"metadata": {"name": "serving"}, "spec": {}},
    "HTTPRoute": {
        "metadata": {"name": "serving"},
        "spec": {
            "rules": [
                {
                    "backendRefs": [
                        {"group": "", "kind": "Service", "name": "serving", "port": 80, "weight": 90},
                        {"group": "", "kind": "Service", "name": "serving", "port": 80, "weight": 10},
                    ]
                }
            ]
        },
    },
    "NetworkPolicy": {
        "metadata": {"name": "default-deny", "namespace": "model-dev"},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
    },
}
POD = "Deployment.spec.template.spec"
BENTO = f"{POD}.containers.0"
BACKENDS = "HTTPRoute.spec.rules.0.backendRefs"
FAULTS = [
    ("digest_only", f"{BENTO}.image", "registry.example.com/model:v1.2.3"),
    ("digest_only", f"{BENTO}.image", "registry.example.com/model:v1@sha256:" + "a" * 64),
    ("digest_only", f"{BENTO}.image", "serving-stable"),
    ("digest_only", f"{POD}.initContainers", [{**CONTAINER, "image": "busybox"}]),
    ("weights_sum", f"{BACKENDS}.0.weight", 95),
    ("weights_sum", f"{BACKENDS}.0.weight", None),
    ("explicit_backends", f"{BACKENDS}.0.group", None),
    ("explicit_backends", f"{BACKENDS}.0.kind", None),
    ("backends_exist", f"{BACKENDS}.1.name", "serving-canary"),
    ("autoscaler_owns_replicas", "Deployment.spec.replicas", 3),
    ("gpu_pool", f"{POD}.tolerations", []),
    ("gpu_pool", f"{POD}.nodeSelector", {}),
    ("gpu_pool", "Deployment.spec.strategy.rollingUpdate.maxSurge", 1),
    ("probed", f"{BENTO}.readinessProbe", None),
    ("probed", f"{BENTO}.livenessProbe", None),
    ("bounded", f"{BENTO}.resources.limits", {"cpu": "1"}),
    ("bounded", f"{BENTO}.resources", {}),
    ("restricted", f"{POD}.automountServiceAccountToken", None),
    ("restricted", f"{BENTO}.securityContext.runAsNonRoot", False),
    ("restricted", f"{BENTO}.securityContext.runAsUser", 0),
    ("restricted", f"{BENTO}.securityContext.readOnlyRootFilesystem", None),
    ("restricted", f"{BENTO}.securityContext.allowPrivilegeEscalation", True),
    ("restricted", f"{BENTO}.securityContext.capabilities", {"drop": []}),
    ("restricted", f"{BENTO}.securityContext.seccompProfile", {"type": "Unconfined"}),
    ("denied_by_default", "NetworkPolicy.spec.policyTypes", ["Ingress"]),
    ("denied_by_default", "NetworkPolicy.metadata.namespace", "other"),
]


def changed(path: str, value: object) -> list[dict]:
    """The sound manifests with one value set; None takes it out."""
    objects = deepcopy(SOUND)
    *parents, last = path.split(".")
    node = objects
    for step in parents:
        node = node[int(step)] if isinstance(node, list) else node[step]
    node[last] = value
    if value is None:
        del node[last]
    return [{"kind": kind, **body} for kind, body in objects.items()]


def test_sound_manifests_break_no_policy():
    """What the faults below are made from passes."""
    assert breaches(changed("Service.spec", {})) == []


@pytest.mark.parametrize(("policy", "path", "value"), FAULTS)
def test_a_policy_rejects(policy, path, value):
    """One fault breaks its policy, which names the object, and no other."""
    manifests = changed(path, value)
    broken = {each.__name__: list(each(manifests)) for each in POLICIES}
    assert [name for name, said in broken.items() if said] == [policy]
    assert all("serving" in said for said in broken[policy])


def test_every_policy_is_tested():
    """A new policy comes with a manifest that it rejects."""
    assert {policy.__name__ for policy in POLICIES} == {policy for policy, _, _ in FAULTS}
