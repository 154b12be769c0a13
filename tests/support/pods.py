"""Pods that must not run beside models: both `loop render --check` and the cluster reject them."""

from copy import deepcopy
from typing import Any

NOBODY = {"runAsNonRoot": True, "runAsUser": 1034, "seccompProfile": {"type": "RuntimeDefault"}}
BARE = {
    "readOnlyRootFilesystem": True,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
}
CONTAINER = {
    "name": "bento",
    "image": "registry.example.com:5000/team/model@sha256:" + "a" * 64,
    "ports": [{"name": "http", "containerPort": 3000}],
    "lifecycle": {"preStop": {"sleep": {"seconds": 8}}},
    "readinessProbe": {"httpGet": {"path": "/readyz", "port": 3000}},
    "livenessProbe": {"httpGet": {"path": "/livez", "port": 3000}},
    "resources": {
        "requests": {"cpu": "1", "memory": "1Gi"},
        "limits": {"cpu": "1", "memory": "1Gi"},
    },
    "securityContext": BARE,
}
SOUND: dict[str, Any] = {
    "automountServiceAccountToken": False,
    "securityContext": NOBODY,
    "containers": [CONTAINER],
    "volumes": [{"name": "tmp", "emptyDir": {}}],
}
BENTO = "containers.0"
SECURITY = f"{BENTO}.securityContext"
TOKEN = {"sources": [{"serviceAccountToken": {"path": "token"}}]}
BAD: dict[str, tuple[Any, ...]] = {  # paths in the pod's spec and their values; None deletes the field
    "the host's network": ("hostNetwork", True),
    "the host's processes": ("hostPID", True),
    "the host's memory": ("hostIPC", True),
    "a token": ("automountServiceAccountToken", None),
    "a token requested": ("automountServiceAccountToken", True),
    "a token in a volume": ("volumes", [{"name": "token", "projected": TOKEN}]),
    "a folder of the host": ("volumes", [{"name": "host", "hostPath": {"path": "/"}}]),
    "a share": ("volumes", [{"name": "share", "nfs": {"server": "192.0.2.1", "path": "/"}}]),
    "kernel settings": ("securityContext.sysctls", [{"name": "kernel.shm_rmid_forced", "value": "1"}]),
    "a role of SELinux": (f"{SECURITY}.seLinuxOptions", {"role": "system_r"}),
    "a role of SELinux for all": ("securityContext.seLinuxOptions", {"role": "system_r"}),
    "no AppArmor for all": ("securityContext.appArmorProfile", {"type": "Unconfined"}),
    "no AppArmor": (f"{SECURITY}.appArmorProfile", {"type": "Unconfined"}),
    "privileged": (f"{SECURITY}.privileged", True, f"{SECURITY}.allowPrivilegeEscalation", None),
    "may gain privileges": (f"{SECURITY}.allowPrivilegeEscalation", None),
    "root": (f"{SECURITY}.runAsUser", 0),
    "root for all": ("securityContext.runAsUser", 0),
    "no user id": ("securityContext.runAsUser", None),
    "root not excluded": ("securityContext.runAsNonRoot", None),
    "a writable root": (f"{SECURITY}.readOnlyRootFilesystem", None),
    "capabilities kept": (f"{SECURITY}.capabilities", {"drop": ["NET_RAW"]}),
    "a capability added": (f"{SECURITY}.capabilities.add", ["NET_BIND_SERVICE"]),
    "no seccomp for all": ("securityContext.seccompProfile", None),
    "no seccomp": (f"{SECURITY}.seccompProfile", {"type": "Unconfined"}),
    "all of /proc": (f"{SECURITY}.procMount", "Unmasked", "hostUsers", False),
    "a port of the host": (f"{BENTO}.ports.0.hostPort", 3000),
    "a probe elsewhere": (f"{BENTO}.livenessProbe.httpGet.host", "169.254.169.254"),
    "a hook elsewhere": (f"{BENTO}.lifecycle.preStop", {"httpGet": {"host": "192.0.2.1", "port": 80}}),
    "a tag": (f"{BENTO}.image", "registry.example.com/model:v1"),
    "a tag with a digest": (f"{BENTO}.image", "registry.example.com/model:v1@sha256:" + "a" * 64),
    "an unrestricted init container": ("initContainers", [{"name": "init", "image": CONTAINER["image"]}]),
}


def spec_of(wrong: str = "") -> dict[str, Any]:
    """Return the spec of the acceptable pod, or of one of the BAD ones."""
    spec, places = deepcopy(SOUND), BAD.get(wrong, ())
    for path, value in zip(places[::2], places[1::2], strict=True):
        put(spec, path, value)
    return spec


def put(node: Any, path: str, value: object) -> None:
    """Set the value at a path such as `containers.0.image`; None deletes the field."""
    *parents, last = path.split(".")
    for step in parents:
        node = node[int(step)] if isinstance(node, list) else node[step]
    node[last] = value
    if value is None:
        del node[last]
