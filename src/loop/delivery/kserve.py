"""An overlay's release as KServe runs it: one InferenceService on Knative."""

from collections.abc import Mapping
from io import StringIO
from typing import Any

from ruamel.yaml import YAML

from loop.core.errors import LoopError
from loop.core.release_state import State

API = "serving.kserve.io/v1beta1"
CONTAINER = "kserve-container"  # the name by which KServe finds the container that predicts
MOUNTED = {"emptyDir"}  # the kinds of volume that Knative allows without a flag of its own
# Knative refuses what is not in this list, such as a container's lifecycle.
ALLOWED = ("image", "command", "args", "workingDir", "env", "resources", "securityContext")


def inference_service(objects: list[dict[str, Any]], state: State) -> dict[str, Any]:
    """The InferenceService of a release state; LoopError where nothing is released.

    `objects` is what kustomize renders of the overlay. A canary has a percentage only as long as its image
    differs from stable's: after the hand-over both are the same, and KServe would take a percentage of 0
    for a rollback to the revision before.
    """
    deployments = {each["metadata"]["name"]: each for each in objects if each["kind"] == "Deployment"}
    if state.stable is None:
        raise LoopError("nothing is released here", fix="release it first: docs/fork.md")
    split = state.canary is not None and state.canary.image != state.stable.image
    deployment = deployments["serving-canary" if split else "serving-stable"]
    template = deployment["spec"]["template"]
    (serving,) = template["spec"]["containers"]
    predictor: dict[str, Any] = {
        "containers": [_container(serving, template["spec"])],
        "volumes": [  # a folder of the pod's own in place of a claim
            volume if MOUNTED & volume.keys() else {"name": volume["name"], "emptyDir": {}}
            for volume in template["spec"]["volumes"]
        ],
    }
    if split and state.canary:
        predictor["canaryTrafficPercent"] = state.canary.weight
    labels = template["metadata"]["labels"]
    return {
        "apiVersion": API,
        "kind": "InferenceService",
        "metadata": {
            "name": labels["app.kubernetes.io/name"],
            "namespace": deployment["metadata"]["namespace"],
            "annotations": {"serving.kserve.io/deploymentMode": "Knative"},
        },
        "spec": {"predictor": predictor},
    }


def text(service: Mapping[str, Any]) -> str:
    """An object as YAML."""
    yaml, written = YAML(typ="safe", pure=True), StringIO()
    yaml.default_flow_style = False
    yaml.width = 1000  # an image by digest stays on one line
    yaml.dump(service, written)
    return written.getvalue()


def _container(container: Mapping[str, Any], pod: Mapping[str, Any]) -> dict[str, Any]:
    """The serving container under KServe's name, with the user that the pod's own context names."""
    kept = {key: container[key] for key in ALLOWED if key in container}
    user = {key: pod["securityContext"][key] for key in ("runAsNonRoot", "runAsUser", "runAsGroup")}
    probe = container["readinessProbe"]["httpGet"]["path"]
    return {
        **kept,
        "name": CONTAINER,
        "ports": [{"containerPort": container["ports"][0]["containerPort"], "protocol": "TCP"}],
        "readinessProbe": {"httpGet": {"path": probe}},
        "securityContext": {**kept.get("securityContext", {}), **user},
        "volumeMounts": list(container["volumeMounts"]),
    }
