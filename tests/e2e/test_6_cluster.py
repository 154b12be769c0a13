"""The cluster enforces the manifests: network policies, admission policies, and production's GPU nodes."""

import json
from typing import Any
from urllib.parse import urlsplit

import pytest
from cluster import tool, until
from pods import BAD, spec_of
from scene import Scene
from standin import ROOT

from loop.core import release_state
from loop.core.git import Git
from loop.core.params import Device
from loop.delivery import render
from loop_demo.team import ENVIRONMENT

STRANGER = "stranger"
FAKE = "kwok.x-k8s.io/node"
KINDS = {
    "Namespace",
    "ServiceAccount",
    "PersistentVolumeClaim",
    "Deployment",
    "HorizontalPodAutoscaler",
    "Job",
}
CONNECT = (
    "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 3).close(); print('open')"
)
RESOLVE = "import socket, sys; print(socket.gethostbyname(sys.argv[1]))"


def can_connect(scene: Scene, pod: dict[str, Any], address: str, port: int) -> bool:
    """Say whether a connection from inside a pod succeeds."""
    return "open" in run_inside(scene, pod, CONNECT, address, str(port))


def run_inside(scene: Scene, pod: dict[str, Any], program: str, *args: str) -> str:
    """Run a line of Python inside a pod and return its output, empty if it fails."""
    meta = pod["metadata"]
    command = ("exec", f"-n={meta['namespace']}", meta["name"], "--", "python3", "-c", program, *args)
    return scene.cluster.kubectl(*command, codes=(0, 1))


def start_stranger(scene: Scene) -> dict[str, Any]:
    """Start a pod in another team's namespace, where no policy restricts it, and return it."""
    image = scene.team.state().monitor
    security = {"runAsNonRoot": True, "runAsUser": 1034}
    container = {"name": "sleep", "image": image, "command": ["sleep", "600"]}
    manifests = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": STRANGER}},
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "sleep", "namespace": STRANGER},
            "spec": {"containers": [container], "securityContext": security},
        },
    ]
    for manifest in manifests:
        scene.cluster.apply(json.dumps(manifest))
    scene.cluster.kubectl("wait", "--for=condition=Ready", "pod/sleep", f"-n={STRANGER}", "--timeout=60s")
    return dict(scene.cluster.get(f"/api/v1/namespaces/{STRANGER}/pods/sleep") or {})


def test_only_the_needed_connections_are_open(scene: Scene) -> None:
    """Real connections show that the network policies allow what they name, and nothing else."""
    if not scene.cluster.own:
        pytest.skip("in any other cluster its operator decides about the network")
    (judge,) = scene.pods(component="judge")
    serving = next(pod for pod in scene.pods() if pod["metadata"]["labels"]["track"] == "stable")
    track, prometheus = f"serving-stable.{scene.namespace()}", "prometheus-operated.monitoring"
    github = urlsplit(scene.team.hub.url)
    git = (str(github.hostname), int(github.port or 0))
    other = scene.pods("dev")[0]["status"]["podIP"]
    here = serving["status"]["podIP"]
    for address, port in ((track, 80), (prometheus, 9090), git):
        assert can_connect(scene, judge, address, port), f"the judge cannot reach {address}:{port}"
    assert run_inside(scene, serving, RESOLVE, track).strip(), "the serving pod cannot resolve names"
    shut = [(serving, address, port) for address, port in (git, (prometheus, 9090), (other, 3000))]
    shut += [(serving, "kubernetes.default", 443), (judge, other, 3000)]
    outside, pushed = start_stranger(scene), "prometheus-pushgateway.monitoring"
    shut += [(outside, here, 3000), *((pod, pushed, 9091) for pod in (outside, serving, judge))]
    for pod, address, port in shut:
        assert not can_connect(scene, pod, address, port), (
            f"{pod['metadata']['name']} can reach {address}:{port}"
        )
    scene.figures.record("connections tried and open", 4, "")
    scene.figures.record("connections tried and closed", len(shut), "")
    scene.cluster.kubectl("delete", "namespace", STRANGER, "--wait=false")


def test_the_cluster_refuses_pods_that_render_check_rejects(scene: Scene) -> None:
    """The cluster refuses any pod that `render --check` rejects, even in a namespace without labels."""
    space = f"unlabelled-{ENVIRONMENT}"
    scene.cluster.kubectl("create", "namespace", space)
    refusals = {wrong: refusal(scene, space, spec_of(wrong)) for wrong in ("", *BAD)}
    assert refusals.pop("") == ""
    for wrong, said in refusals.items():
        assert "ValidatingAdmissionPolicy 'models'" in said, f"{wrong}: {said}"
    scene.cluster.kubectl("delete", "namespace", space, "--wait=false")
    for wrong in ("privileged", "a tag"):
        assert refusal(scene, scene.namespace(), spec_of(wrong)), f"production accepts a pod with {wrong}"
    scene.figures.record("kinds of pods refused", len(refusals), "")


def refusal(scene: Scene, space: str, spec: dict[str, Any]) -> str:
    """Return why the API server would refuse a pod, empty if it would accept it."""
    manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "tried", "namespace": space},
        "spec": spec,
    }
    return scene.cluster.refused(json.dumps(manifest))


def production_manifests(scene: Scene, device: Device) -> list[dict[str, Any]]:
    """Return the manifests of the template's production, and of a training, for a release built for `device`.

    They serve this fork's current release, in the namespace `<device>-production`. The number of replicas
    that a canary's step has set is left out, because it belongs to the small peak of this fork.
    """
    serves = scene.team.state()
    tracks = {name: track for name in ("stable", "canary") if (track := getattr(serves, name))}
    on = None if device == "cpu" else device
    plain = {
        name: track.model_copy(update={"replicas": None, "device": on}) for name, track in tracks.items()
    }
    release = release_state.files(serves.model_copy(update=plain), "production", scene.team.model)
    name, _, digest = str(serves.monitor).partition("@")
    with Git(ROOT).worktree(Git(ROOT).head()) as tree:
        for path, text in release.items():
            (tree / path).write_text(text)
        wrapped = {
            "namespace": f"{device}-production",
            "resources": [f"../kustomize/overlays/production/{scene.model}"],
            "components": ["../kustomize/components/train"],
            "images": [{"name": "train", "newName": name, "digest": digest}],
        }
        (tree / "pool").mkdir()
        (tree / "pool" / "kustomization.yaml").write_text(json.dumps(wrapped))
        manifests = render.documents(render.build(tree / "pool"))
    for each in (manifest for manifest in manifests if manifest["kind"] in {"Deployment", "Job"}):
        # Only kwok's taint is tolerated here: the manifests must tolerate the pool's own.
        pod = each["spec"]["template"]["spec"]
        pod["tolerations"] = [*pod.get("tolerations", []), {"key": FAKE, "operator": "Exists"}]
    return [manifest for manifest in manifests if manifest["kind"] in KINDS]


def test_production_fits_its_gpu_pool(scene: Scene) -> None:
    """A release for GPUs and the training run on the GPU pool, one pod a node; a release for CPUs does not.

    The pods request production's real resources. The test adds a toleration for kwok's taint, and no other.
    """
    if not scene.cluster.own:
        pytest.skip("only the cluster of `make cluster` has fake nodes")
    tool("nodes", "gpu", "4")
    tool("nodes", "cpu", "1")

    def scheduled(device: Device) -> list[dict[str, Any]]:
        space, manifests = f"{device}-production", production_manifests(scene, device)
        scene.cluster.apply("---\n".join(json.dumps(manifest) + "\n" for manifest in manifests))
        wanted = {"stable", "train"} if device == "cuda" else {"stable"}

        def pods() -> list[dict[str, Any]]:
            found = [
                pod for pod in scene.cluster.items(f"/api/v1/namespaces/{space}/pods") if role(pod) in wanted
            ]
            whole = len(found) > len(wanted) and {role(pod) for pod in found} == wanted
            return found if whole and all("nodeName" in pod["spec"] for pod in found) else []

        return until(pods, lambda: scene.cluster.kubectl("get", "pods,events", f"-n={space}", "-o=wide"))

    pods = scheduled("cuda")
    assert all(pod["spec"]["nodeName"].startswith("fake-gpu-") for pod in pods)
    # kwok ends a Job at once, so its GPU may already belong to another pod.
    nodes = [pod["spec"]["nodeName"] for pod in pods if role(pod) == "stable"]
    assert len(set(nodes)) == len(nodes)
    for pod in pods:
        resources = pod["spec"]["containers"][0]["resources"]["requests"]
        asked = ("2", "4Gi", "1") if role(pod) == "stable" else ("4", "16Gi", "1")
        assert (resources["cpu"], resources["memory"], resources["nvidia.com/gpu"]) == asked
    assert not any(pod["spec"]["nodeName"].startswith("fake-gpu-") for pod in scheduled("cpu"))
    scene.figures.record("pods of production and training on the fake GPU pool", len(pods), "")
    for device in ("cuda", "cpu"):
        scene.cluster.kubectl("delete", "namespace", f"{device}-production", "--wait=false")
    tool("nodes", "gpu", "0")
    tool("nodes", "cpu", "0")


def role(pod: dict[str, Any]) -> str:
    """Return a pod's track, or `train`."""
    labels = pod["metadata"]["labels"]
    return str(labels.get("track") or labels.get("app.kubernetes.io/component"))
