"""An overlay's release as KServe runs it: one InferenceService on Knative."""

from typing import Any

from loop.core.errors import LoopError
from loop.core.release_state import State

API = "serving.kserve.io/v1beta1"
CONTAINER = "kserve-container"  # the name by which KServe finds the container that predicts
USER = ("runAsNonRoot", "runAsUser", "runAsGroup")
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
    container = {key: serving[key] for key in ALLOWED if key in serving}
    user = {key: template["spec"]["securityContext"][key] for key in USER}  # from the pod's own context
    container |= {
        "name": CONTAINER,
        "ports": [{"containerPort": serving["ports"][0]["containerPort"], "protocol": "TCP"}],
        "readinessProbe": {"httpGet": {"path": serving["readinessProbe"]["httpGet"]["path"]}},
        "securityContext": {**container.get("securityContext", {}), **user},
        "volumeMounts": list(serving["volumeMounts"]),
    }
    predictor: dict[str, Any] = {
        "containers": [container],
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
