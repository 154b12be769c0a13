"""Every policy has a manifest that it rejects."""

from copy import deepcopy

import pytest

from loop.delivery.policy import POLICIES, breaches

DIGEST = "registry.example.com:5000/team/model@sha256:" + "a" * 64
CONTAINER = {
    "name": "bento",
    "image": DIGEST,
    "ports": [{"name": "http", "containerPort": 3000}],
    "env": [
        {"name": "PREDICTION_LOG_DIR", "value": "/predictions"},
        {"name": "MODEL", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['model']"}}},
    ],
    "volumeMounts": [{"name": "log", "mountPath": "/predictions"}],
    "lifecycle": {"preStop": {"sleep": {"seconds": 8}}},
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
JOB = {
    "name": "monitor",
    "image": DIGEST,
    "resources": {name: {"cpu": "1", "memory": "1Gi"} for name in ("requests", "limits")},
    "securityContext": CONTAINER["securityContext"],
}
SOUND = {
    "Deployment": {
        "metadata": {"name": "serving", "namespace": "model-dev"},
        "spec": {
            "strategy": {"rollingUpdate": {"maxSurge": 0}},
            "template": {
                "metadata": {"labels": {"app": "serving", "model": "any"}},
                "spec": {
                    "automountServiceAccountToken": False,
                    "nodeSelector": {"accelerator": "any"},
                    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
                    "containers": [CONTAINER],
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
BENTO = f"{POD}.containers.0"
BACKENDS = "HTTPRoute.spec.rules.0.backendRefs"
MATCHES = "HTTPRoute.spec.rules.0.matches"
FAULTS = [
    ("digest_only", f"{BENTO}.image", "registry.example.com/model:v1.2.3"),
    ("digest_only", f"{BENTO}.image", "registry.example.com/model:v1@sha256:" + "a" * 64),
    ("digest_only", f"{BENTO}.image", "serving-stable"),
    ("digest_only", f"{POD}.initContainers", [{**JOB, "image": "busybox"}]),
    ("digest_only", f"{JOBS}.template.spec.containers.0.image", "monitor"),
    ("weights_sum", f"{BACKENDS}.0.weight", 95),
    ("weights_sum", f"{BACKENDS}.0.weight", None),
    ("explicit_backends", f"{BACKENDS}.0.group", None),
    ("explicit_backends", f"{BACKENDS}.0.kind", None),
    ("explicit_backends", "HTTPRoute.spec.rules.0.matches", None),
    ("public_paths", MATCHES, [{"path": {"type": "PathPrefix", "value": "/"}}]),
    ("public_paths", MATCHES, [{"path": {"type": "PathPrefix", "value": "/predict"}}]),
    ("public_paths", MATCHES, [{"path": {"type": "Exact", "value": "/metrics"}}]),
    ("public_paths", MATCHES, [{"method": "GET"}]),
    ("public_paths", "HTTPRoute.spec.rules.0.filters", [{"type": "URLRewrite"}]),
    ("public_paths", f"{BACKENDS}.0.filters", [{"type": "URLRewrite"}]),
    ("backends_exist", f"{BACKENDS}.1.name", "serving-canary"),
    ("autoscaler_owns_replicas", "Deployment.spec.replicas", 3),
    ("autoscaler_owns_replicas", "HorizontalPodAutoscaler.spec.scaleTargetRef.name", "other"),
    ("gpu_pool", f"{POD}.tolerations", []),
    ("gpu_pool", f"{POD}.nodeSelector", {}),
    ("gpu_pool", "Deployment.spec.strategy.rollingUpdate.maxSurge", 1),
    ("probed", f"{BENTO}.readinessProbe", None),
    ("probed", f"{BENTO}.livenessProbe", None),
    ("drained", f"{BENTO}.lifecycle", None),
    ("drained", f"{POD}.terminationGracePeriodSeconds", 5),
    ("bounded", f"{JOBS}.activeDeadlineSeconds", None),
    ("bounded", f"{JOBS}.template.spec.containers.0.resources.limits", {}),
    ("bounded", f"{BENTO}.resources.limits", {"cpu": "1"}),
    ("bounded", f"{BENTO}.resources", {}),
    ("restricted", f"{POD}.automountServiceAccountToken", None),
    ("restricted", f"{JOBS}.template.spec.automountServiceAccountToken", True),
    ("restricted", f"{JOBS}.template.spec.initContainers", [{**JOB, "securityContext": {}}]),
    ("restricted", f"{BENTO}.securityContext.runAsNonRoot", False),
    ("restricted", f"{BENTO}.securityContext.runAsUser", 0),
    ("restricted", f"{BENTO}.securityContext.readOnlyRootFilesystem", None),
    ("restricted", f"{BENTO}.securityContext.allowPrivilegeEscalation", True),
    ("restricted", f"{BENTO}.securityContext.capabilities", {"drop": []}),
    ("restricted", f"{BENTO}.securityContext.seccompProfile", {"type": "Unconfined"}),
    ("denied_by_default", "NetworkPolicy.spec.policyTypes", ["Ingress"]),
    ("denied_by_default", "NetworkPolicy.metadata.namespace", "other"),
    ("log_outlives", f"{POD}.volumes", [{"name": "log", "emptyDir": {}}]),
    ("log_outlives", "PersistentVolumeClaim.metadata.name", "other"),
    ("log_outlives", "PersistentVolumeClaim.metadata.annotations", None),
    ("labels_known", f"{POD.removesuffix('spec')}metadata.labels", {"app": "serving"}),
    ("pods_pose_as_none", "PodMonitor.spec.podMetricsEndpoints.0.honorLabels", True),
]
TO_ALL = {  # what makes a NetworkPolicy's edge open to all
    "from anywhere": {"ingress": [{"ports": [{"port": "http"}]}]},
    "from every namespace": {"ingress": [{"from": [{"namespaceSelector": {}}], "ports": [{"port": "http"}]}]},
    "at any port": {"ingress": [{"from": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}]},
    "to anywhere": {"egress": [{"ports": [{"port": 443}]}]},
    "to everything": {"egress": [{}]},
}


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
    assert all("must name both ends and the port" in each for each in said)


def test_every_policy_is_tested():
    """A new policy comes with a manifest that it rejects."""
    tested = {policy for policy, _, _ in FAULTS} | {"segmented"}
    assert {policy.__name__ for policy in POLICIES} == tested
