"""Every policy has a manifest that it rejects."""

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
        {"name": "MODEL", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['model']"}}},
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
    ("gpu_pool", f"{POD}.tolerations", []),
    ("gpu_pool", f"{POD}.nodeSelector", {}),
    ("gpu_pool", "Deployment.spec.strategy.rollingUpdate.maxSurge", 1),
    ("serves_on", "Deployment.metadata.labels.device", None),
    ("serves_on", f"{SERVING}.resources.limits", {"cpu": "1", "memory": "1Gi"}),
    ("probed", f"{SERVING}.readinessProbe", None),
    ("probed", f"{SERVING}.livenessProbe", None),
    ("drained", f"{SERVING}.lifecycle", None),
    ("drained", f"{POD}.terminationGracePeriodSeconds", 5),
    ("evictable", "PodDisruptionBudget.spec.unhealthyPodEvictionPolicy", None),
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
    ("behind_the_gateway", "Service.spec.type", "NodePort"),
    ("behind_the_gateway", "Service.spec.type", "LoadBalancer"),
    ("behind_the_gateway", "Service.spec.type", "ExternalName"),
    ("behind_the_gateway", "Service.spec.externalIPs", ["192.0.2.1"]),
    ("backends", f"{BACKENDS}.0.namespace", "other"),
    ("denied_by_default", "NetworkPolicy.spec.policyTypes", ["Ingress"]),
    ("denied_by_default", "NetworkPolicy.metadata.namespace", "other"),
    ("log_outlives", f"{POD}.volumes", [{"name": "log", "emptyDir": {}}]),
    ("log_outlives", "PersistentVolumeClaim.metadata.name", "other"),
    ("log_outlives", "PersistentVolumeClaim.metadata.annotations", None),
    ("labels_known", f"{POD.removesuffix('spec')}metadata.labels", {"app": "serving"}),
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
    ("pods_pose_as_none", "PodMonitor.spec.namespaceSelector", {"any": True}),
]
TO_ALL = {  # what makes a NetworkPolicy's edge open to all
    "from anywhere": {"ingress": [{"ports": [{"port": "http"}]}]},
    "from every namespace": {"ingress": [{"from": [{"namespaceSelector": {}}], "ports": [{"port": "http"}]}]},
    "at any port": {"ingress": [{"from": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}]},
    "to anywhere": {"egress": [{"ports": [{"port": 443}]}]},
    "to everything": {"egress": [{}]},
    "to everything, of a side that is not said": {"policyTypes": [], "egress": [{}]},
    "to everything, by a label of the cluster's": {
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
    """The sound manifests with one value set; None takes it out."""
    objects = deepcopy(SOUND)
    put(objects, path, value)
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


@pytest.mark.parametrize("wrong", BAD)
def test_a_pod_that_must_not_run_is_rejected(wrong):
    """Each is named with its workload; argocd/admission.yaml rejects the same ones (tests/e2e)."""
    manifests = changed(POD, spec_of(wrong))
    said = [*restricted(manifests), *digest_only(manifests)]
    assert said
    assert all(each.startswith("Deployment serving") for each in said)


OUT = {  # ways out of a namespace that lead to more than they seem to
    "to the node's metadata": ("0.0.0.0/0", ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"], 443),
    "to every private network": ("::/0", [], 443),
    "to half of them": ("128.0.0.0/1", [], 443),
    "to any DNS server": ("192.0.2.0/24", [], 53),
}


@pytest.mark.parametrize("way", OUT)
def test_a_way_out_is_no_wider_than_it_says(way):
    """The internet is not the private networks, and no DNS server but the cluster's is asked."""
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
def test_an_edge_to_all_is_rejected(fault):
    """A second policy that allows too much, beside the one that denies."""
    policy = {
        "kind": "NetworkPolicy",
        "metadata": {"name": "wide", "namespace": "model-dev"},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"], **TO_ALL[fault]},
    }
    said = breaches([*changed("Service.spec", {}), policy])
    assert said
    assert all(re.search("must name .* port|must be private", each) for each in said)


def test_every_policy_is_tested():
    """A new policy comes with a manifest that it rejects."""
    tested = {policy for policy, _, _ in FAULTS} | {"segmented", "resolved_by_the_cluster"}
    assert {policy.__name__ for policy in POLICIES} == tested
