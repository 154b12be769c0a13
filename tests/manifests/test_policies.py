"""Every policy of `render --check` rejects the manifests that it is for, and no others."""

import re
from copy import deepcopy

import pytest
from pods import BAD, BARE, CONTAINER, NOBODY, put, spec_of

from loop.delivery.policy import POLICIES, breaches, digest_only, restricted

pytestmark = pytest.mark.sample

BENTO = {
    **CONTAINER,
    "env": [
        {"name": "PREDICTION_LOG_DIR", "value": "/predictions"},
    ],
    "volumeMounts": [{"name": "log", "mountPath": "/predictions"}],
    "resources": {
        "requests": {"cpu": "1", "memory": "1Gi"},
        "limits": {"cpu": "1", "memory": "1Gi", "nvidia.com/gpu": 1},
    },
}
JOB = {
    "name": "monitor",
    "image": CONTAINER["image"],
    "resources": {name: {"cpu": "1", "memory": "1Gi"} for name in ("requests", "limits")},
    "securityContext": {**NOBODY, **BARE},
}
SOUND = {
    "Deployment": {
        "metadata": {
            "name": "serving",
            "namespace": "model-dev",
            "labels": {"track": "stable", "device": "cuda"},
        },
        "spec": {
            "strategy": {"rollingUpdate": {"maxSurge": 0}},
            "template": {
                "metadata": {"labels": {"app": "serving", "model": "any"}},
                "spec": {
                    "automountServiceAccountToken": False,
                    "securityContext": NOBODY,
                    "nodeSelector": {"accelerator": "any"},
                    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
                    "containers": [BENTO],
                    "volumes": [{"name": "log", "persistentVolumeClaim": {"claimName": "predictions"}}],
                },
            },
        },
    },
    "CronJob": {
        "metadata": {"name": "drift-of-serving", "namespace": "model-dev"},
        "spec": {
            "jobTemplate": {
                "spec": {
                    "activeDeadlineSeconds": 60,
                    "template": {"spec": {"automountServiceAccountToken": False, "containers": [JOB]}},
                }
            },
        },
    },
    "Job": {
        "metadata": {"name": "training-of-serving", "namespace": "model-dev"},
        "spec": {
            "activeDeadlineSeconds": 60,
            "template": {"spec": {"automountServiceAccountToken": False, "containers": [JOB]}},
        },
    },
    "PersistentVolumeClaim": {
        "metadata": {
            "name": "predictions",
            "annotations": {"argocd.argoproj.io/sync-options": "Prune=false,Delete=false"},
        },
    },
    "HorizontalPodAutoscaler": {
        "metadata": {"name": "serving"},
        "spec": {"scaleTargetRef": {"name": "serving"}},
    },
    "PodDisruptionBudget": {
        "metadata": {"name": "serving"},
        "spec": {"maxUnavailable": 1, "unhealthyPodEvictionPolicy": "AlwaysAllow"},
    },
    "Service": {"metadata": {"name": "serving"}, "spec": {}},
    "HTTPRoute": {
        "metadata": {"name": "serving"},
        "spec": {
            "rules": [
                {
                    "matches": [{"path": {"type": "Exact", "value": "/predict"}}],
                    "backendRefs": [
                        {"group": "", "kind": "Service", "name": "serving", "port": 80, "weight": 90},
                        {"group": "", "kind": "Service", "name": "serving", "port": 80, "weight": 10},
                    ],
                }
            ]
        },
    },
    "NetworkPolicy": {
        "metadata": {"name": "default-deny", "namespace": "model-dev"},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
    },
    "PodMonitor": {
        "metadata": {"name": "serving"},
        "spec": {"podMetricsEndpoints": [{"port": "http", "honorLabels": False}]},
    },
}
JOBS = "CronJob.spec.jobTemplate.spec"
POD = "Deployment.spec.template.spec"
SERVING = f"{POD}.containers.0"
ENDPOINT = "PodMonitor.spec.podMetricsEndpoints.0"
BACKENDS = "HTTPRoute.spec.rules.0.backendRefs"
MATCHES = "HTTPRoute.spec.rules.0.matches"
FAULTS = [
    ("digest_only", f"{SERVING}.image", "serving-stable"),
    ("digest_only", f"{POD}.initContainers", [{**JOB, "image": "busybox"}]),
    ("digest_only", f"{JOBS}.template.spec.containers.0.image", "monitor"),
    ("backends", f"{BACKENDS}.0.weight", 95),
    ("backends", f"{BACKENDS}.0.weight", None),
    ("backends", f"{BACKENDS}.0.group", None),
    ("backends", f"{BACKENDS}.0.kind", None),
    ("backends", "HTTPRoute.spec.rules.0.matches", None),
    ("public_paths", MATCHES, [{"path": {"type": "PathPrefix", "value": "/"}}]),
    ("public_paths", MATCHES, [{"path": {"type": "PathPrefix", "value": "/predict"}}]),
    ("public_paths", MATCHES, [{"path": {"type": "Exact", "value": "/metrics"}}]),
    ("public_paths", MATCHES, [{"method": "GET"}]),
    ("public_paths", "HTTPRoute.spec.rules.0.filters", [{"type": "URLRewrite"}]),
    ("public_paths", f"{BACKENDS}.0.filters", [{"type": "URLRewrite"}]),
    ("public_paths", "HTTPRoute.spec.rules.0.filters", [{"type": "RequestRedirect"}]),
    ("public_paths", f"{BACKENDS}.0.filters", [{"type": "RequestMirror"}]),
    ("backends", f"{BACKENDS}.1.name", "serving-canary"),
    ("autoscaler_owns_replicas", "Deployment.spec.replicas", 3),
    ("autoscaler_owns_replicas", "HorizontalPodAutoscaler.spec.scaleTargetRef.name", "other"),
    ("on_a_gpu", f"{POD}.tolerations", []),
    ("on_a_gpu", f"{POD}.nodeSelector", {}),
    ("on_a_gpu", "Deployment.spec.strategy.rollingUpdate.maxSurge", 1),
    ("on_a_gpu", "Deployment.metadata.labels.device", None),
    ("on_a_gpu", f"{SERVING}.resources.limits", {"cpu": "1", "memory": "1Gi"}),
    ("probed_and_drained", f"{SERVING}.readinessProbe", None),
    ("probed_and_drained", f"{SERVING}.livenessProbe", None),
    ("probed_and_drained", f"{SERVING}.lifecycle", None),
    ("probed_and_drained", f"{POD}.terminationGracePeriodSeconds", 5),
    ("fixed_fields", "PodDisruptionBudget.spec.unhealthyPodEvictionPolicy", None),
    ("bounded", f"{JOBS}.activeDeadlineSeconds", None),
    ("bounded", "Job.spec.activeDeadlineSeconds", None),
    ("bounded", f"{JOBS}.template.spec.containers.0.resources.limits", {}),
    ("bounded", f"{SERVING}.resources.limits", {"cpu": "1", "nvidia.com/gpu": 1}),
    ("bounded", f"{SERVING}.resources.requests", {}),
    ("restricted", f"{JOBS}.template.spec.automountServiceAccountToken", True),
    ("restricted", f"{JOBS}.template.spec.initContainers", [{**JOB, "securityContext": {}}]),
    ("restricted", f"{POD}.nodeName", "node-1"),
    ("restricted", f"{POD}.tolerations", [{"key": "nvidia.com/gpu"}, {"operator": "Exists"}]),
    ("restricted", f"{JOBS}.template.spec.tolerations", [{"key": "node-role.kubernetes.io/control-plane"}]),
    ("restricted", f"{JOBS}.template.spec.ephemeralContainers", [{**JOB, "securityContext": {}}]),
    ("fixed_fields", "Service.spec.type", "NodePort"),
    ("fixed_fields", "Service.spec.type", "LoadBalancer"),
    ("fixed_fields", "Service.spec.type", "ExternalName"),
    ("fixed_fields", "Service.spec.externalIPs", ["192.0.2.1"]),
    ("backends", f"{BACKENDS}.0.namespace", "other"),
    ("denied_by_default", "NetworkPolicy.spec.policyTypes", ["Ingress"]),
    ("denied_by_default", "NetworkPolicy.metadata.namespace", "other"),
    ("log_outlives", f"{POD}.volumes", [{"name": "log", "emptyDir": {}}]),
    ("log_outlives", "PersistentVolumeClaim.metadata.name", "other"),
    ("log_outlives", "PersistentVolumeClaim.metadata.annotations", None),
    ("pods_pose_as_none", f"{ENDPOINT}.honorLabels", True),
    ("pods_pose_as_none", f"{ENDPOINT}.relabelings", [{"targetLabel": "namespace", "replacement": "other"}]),
    (
        "pods_pose_as_none",
        f"{ENDPOINT}.metricRelabelings",
        [{"targetLabel": "track", "replacement": "canary"}],
    ),
    ("pods_pose_as_none", f"{ENDPOINT}.metricRelabelings", [{"targetLabel": "$1", "regex": "(.+)"}]),
    (
        "pods_pose_as_none",
        f"{ENDPOINT}.metricRelabelings",
        [{"targetLabel": "job", "sourceLabels": ["exported_job"]}],
    ),
    ("pods_pose_as_none", f"{ENDPOINT}.metricRelabelings", [{"action": "LabelMap", "regex": "is_(.+)"}]),
    ("pods_pose_as_none", "PodMonitor.spec.podTargetLabels", ["track", "namespace"]),
    ("fixed_fields", "PodMonitor.spec.namespaceSelector", {"any": True}),
]
TO_ALL = {  # rules with which a NetworkPolicy allows too much
    "from anywhere": {"ingress": [{"ports": [{"port": "http"}]}]},
    "from every namespace": {"ingress": [{"from": [{"namespaceSelector": {}}], "ports": [{"port": "http"}]}]},
    "at any port": {"ingress": [{"from": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}]},
    "to anywhere": {"egress": [{"ports": [{"port": 443}]}]},
    "to everything": {"egress": [{}]},
    "to everything, without policyTypes": {"policyTypes": [], "egress": [{}]},
    "to everything, selected by a label that the cluster sets": {
        "podSelector": {"matchExpressions": [{"key": "pod-template-hash", "operator": "Exists"}]},
        "egress": [{}],
    },
    "at every port of a protocol": {
        "egress": [{"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}], "ports": [{"protocol": "UDP"}]}]
    },
    "at a range of ports": {
        "egress": [{"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}], "ports": [{"port": 54, "endPort": 65535}]}]
    },
    "from every address": {
        "ingress": [{"from": [{"ipBlock": {"cidr": "0.0.0.0/0"}}], "ports": [{"port": "http"}]}]
    },
    "from every namespace that has a name": {
        "ingress": [
            {
                "from": [
                    {
                        "namespaceSelector": {
                            "matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "Exists"}]
                        }
                    }
                ],
                "ports": [{"port": "http"}],
            }
        ]
    },
}


def changed(path: str, value: object) -> list[dict]:
    """Return the valid manifests with one value changed; None deletes it."""
    objects = deepcopy(SOUND)
    put(objects, path, value)
    return [{"kind": kind, **body} for kind, body in objects.items()]


def test_valid_manifests_pass_every_policy():
    """The manifests to which the other tests add faults pass every policy."""
    assert breaches(changed("Service.spec", {})) == []


@pytest.mark.parametrize(("policy", "path", "value"), FAULTS)
def test_a_policy_rejects_its_faults(policy, path, value):
    """A manifest with one fault breaks only the policy for it, whose message names the object."""
    manifests = changed(path, value)
    broken = {each.__name__: list(each(manifests)) for each in POLICIES}
    assert [name for name, said in broken.items() if said] == [policy]
    assert all("serving" in said for said in broken[policy])


@pytest.mark.parametrize("wrong", BAD)
def test_a_pod_that_must_not_run_is_rejected(wrong):
    """Each bad pod is rejected and named with its workload; tests/e2e shows that the cluster refuses it."""
    manifests = changed(POD, spec_of(wrong))
    said = [*restricted(manifests), *digest_only(manifests)]
    assert said
    assert all(each.startswith("Deployment serving") for each in said)


OUT = {  # address ranges that a rule of egress must not allow
    "to the node's metadata": ("0.0.0.0/0", ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"], 443),
    "to every private network": ("::/0", [], 443),
    "to half of all addresses": ("128.0.0.0/1", [], 443),
    "to any DNS server": ("192.0.2.0/24", [], 53),
}


@pytest.mark.parametrize("way", OUT)
def test_egress_to_private_networks_and_other_dns_is_rejected(way):
    """A rule for the internet must exclude private networks, and port 53 only leads to the cluster's DNS."""
    cidr, left_out, port = OUT[way]
    peer = {"ipBlock": {"cidr": cidr, "except": left_out}}
    rule = {"to": [peer], "ports": [{"protocol": "UDP", "port": port}]}
    policy = {
        "kind": "NetworkPolicy",
        "metadata": {"name": "wide", "namespace": "model-dev"},
        "spec": {"podSelector": {}, "policyTypes": ["Egress"], "egress": [rule]},
    }
    said = breaches([*changed("Service.spec", {}), policy])
    assert said
    assert all(each.startswith("NetworkPolicy wide: ") for each in said)


@pytest.mark.parametrize("fault", TO_ALL)
def test_a_network_policy_that_allows_too_much_is_rejected(fault):
    """A NetworkPolicy that allows too much is rejected, even beside one that denies everything."""
    policy = {
        "kind": "NetworkPolicy",
        "metadata": {"name": "wide", "namespace": "model-dev"},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"], **TO_ALL[fault]},
    }
    said = breaches([*changed("Service.spec", {}), policy])
    assert said
    assert all(re.search("must name .* port|must be private", each) for each in said)


def test_every_policy_is_tested():
    """Every policy has a manifest here that it rejects."""
    tested = {policy for policy, _, _ in FAULTS} | {"segmented"}
    assert {policy.__name__ for policy in POLICIES} == tested
