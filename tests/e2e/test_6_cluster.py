"""What manifests ask of a cluster: edges of the network, and production's own nodes."""

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
TRY = (
    "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 3).close(); print('open')"
)
NAME = "import socket, sys; print(socket.gethostbyname(sys.argv[1]))"


def reaches(scene: Scene, pod: dict[str, Any], address: str, port: int) -> bool:
    """Whether a connection from inside a pod comes about."""
    return "open" in inside(scene, pod, TRY, address, str(port))


def inside(scene: Scene, pod: dict[str, Any], program: str, *args: str) -> str:
    """What a line of Python says inside a pod; nothing where it fails."""
    meta = pod["metadata"]
    command = ("exec", f"-n={meta['namespace']}", meta["name"], "--", "python3", "-c", program, *args)
    return scene.cluster.kubectl(*command, codes=(0, 1))


def stranger(scene: Scene) -> dict[str, Any]:
    """A pod of another team's namespace, which no policy holds back."""
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


def test_only_the_needed_edges_are_open(scene: Scene) -> None:
    """By real connections: what the policies name is open, and the rest of the network is shut."""
    if not scene.cluster.own:
        pytest.skip("the networks of other clusters are their operators'")
    (judge,) = scene.pods(component="judge")
    serving = next(pod for pod in scene.pods() if pod["metadata"]["labels"]["track"] == "stable")
    track, prometheus = f"serving-stable.{scene.namespace()}", "prometheus-operated.monitoring"
    github = urlsplit(scene.team.hub.url)
    git = (str(github.hostname), int(github.port or 0))
    other = scene.pods("dev")[0]["status"]["podIP"]
    here = serving["status"]["podIP"]
    for address, port in ((track, 80), (prometheus, 9090), git):
        assert reaches(scene, judge, address, port), f"the judge does not reach {address}:{port}"
    assert inside(scene, serving, NAME, track).strip(), "serving does not resolve names"
    shut = [(serving, address, port) for address, port in (git, (prometheus, 9090), (other, 3000))]
    shut += [(serving, "kubernetes.default", 443), (judge, other, 3000)]
    outside, pushed = stranger(scene), "prometheus-pushgateway.monitoring"
    shut += [(outside, here, 3000), *((pod, pushed, 9091) for pod in (outside, serving, judge))]
    for pod, address, port in shut:
        assert not reaches(scene, pod, address, port), f"{pod['metadata']['name']} reaches {address}:{port}"
    scene.figures.tell("edges tried: open", 4, "")
    scene.figures.tell("edges tried: shut", len(shut), "")
    scene.cluster.kubectl("delete", "namespace", STRANGER, "--wait=false")


def test_no_pod_runs_that_render_check_rejects(scene: Scene) -> None:
    """The cluster itself refuses it where models run, also where no namespace label does."""
    space = f"unlabelled-{ENVIRONMENT}"
    scene.cluster.kubectl("create", "namespace", space)
    told = {wrong: refusal(scene, space, spec_of(wrong)) for wrong in ("", *BAD)}
    assert told.pop("") == ""
    for wrong, said in told.items():
        assert "ValidatingAdmissionPolicy 'models'" in said, f"{wrong}: {said}"
    scene.cluster.kubectl("delete", "namespace", space, "--wait=false")
    for wrong in ("privileged", "a tag"):
        assert refusal(scene, scene.namespace(), spec_of(wrong)), f"production takes a pod with {wrong}"
    scene.figures.tell("pods refused", len(told), "")


def refusal(scene: Scene, space: str, spec: dict[str, Any]) -> str:
    """What the API server says against a pod; nothing where it would take it."""
    manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "tried", "namespace": space},
        "spec": spec,
    }
    return scene.cluster.refused(json.dumps(manifest))


def real(scene: Scene, device: Device) -> list[dict[str, Any]]:
    """Production as the template has it, serving what is served now as if built for `device`, and training.

    All of it is in a namespace of its own, `<device>-production`. The pods that a canary's step names are
    those of the small peak of this fork.
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
        pod = each["spec"]["template"]["spec"]  # their pool's taint is for the manifests to tolerate
        pod["tolerations"] = [*pod.get("tolerations", []), {"key": FAKE, "operator": "Exists"}]
    return [manifest for manifest in manifests if manifest["kind"] in KINDS]


def test_production_fits_its_gpu_pool(scene: Scene) -> None:
    """A release for GPUs, a pod a node, and training are scheduled on the pool; a release for CPUs is not.

    They ask for what production really asks for, and nothing but kwok's taint is tolerated for them.
    """
    if not scene.cluster.own:
        pytest.skip("fake nodes belong to the cluster of `make cluster`")
    tool("nodes", "gpu=4", "cpu=1")

    def placed(device: Device) -> list[dict[str, Any]]:
        space, manifests = f"{device}-production", real(scene, device)
        scene.cluster.apply("---\n".join(json.dumps(manifest) + "\n" for manifest in manifests))
        wanted = {"stable", "train"} if device == "cuda" else {"stable"}

        def pods() -> list[dict[str, Any]]:
            found = [
                pod for pod in scene.cluster.items(f"/api/v1/namespaces/{space}/pods") if role(pod) in wanted
            ]
            whole = len(found) > len(wanted) and {role(pod) for pod in found} == wanted
            return found if whole and all("nodeName" in pod["spec"] for pod in found) else []

        return until(pods, lambda: scene.cluster.kubectl("get", "pods,events", f"-n={space}", "-o=wide"))

    pods = placed("cuda")
    assert all(pod["spec"]["nodeName"].startswith("fake-gpu-") for pod in pods)
    # kwok lets a Job succeed at once, so its GPU may be another pod's already.
    nodes = [pod["spec"]["nodeName"] for pod in pods if role(pod) == "stable"]
    assert len(set(nodes)) == len(nodes)
    for pod in pods:
        resources = pod["spec"]["containers"][0]["resources"]["requests"]
        asked = ("2", "4Gi", "1") if role(pod) == "stable" else ("4", "16Gi", "1")
        assert (resources["cpu"], resources["memory"], resources["nvidia.com/gpu"]) == asked
    assert not any(pod["spec"]["nodeName"].startswith("fake-gpu-") for pod in placed("cpu"))
    scene.figures.tell("pods of production and training on the fake GPU pool", len(pods), "")
    for device in ("cuda", "cpu"):
        scene.cluster.kubectl("delete", "namespace", f"{device}-production", "--wait=false")
    tool("nodes", "gpu=0", "cpu=0")


def role(pod: dict[str, Any]) -> str:
    """A track, or `train`."""
    labels = pod["metadata"]["labels"]
    return str(labels.get("track") or labels.get("app.kubernetes.io/component"))
