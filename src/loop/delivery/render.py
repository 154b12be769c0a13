"""Renders an overlay with kustomize, as Argo CD will, and checks the manifests by schema and policy."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from loop.core import edited
from loop.core.errors import LoopError, Rejected
from loop.core.paths import program
from loop.core.release_state import State
from loop.delivery import appproject, policy
from loop.delivery.steps import step_of
from loop.delivery.workloads import Manifest, of

# kustomize can fetch remote files with git or over HTTP. An empty PATH and a dead proxy prevent both.
OFFLINE = {"PATH": "/dev/null", "NO_PROXY": "", "no_proxy": ""} | dict.fromkeys(
    ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), "http://127.0.0.1:9"
)
KUSTOMIZATION = "kustomization.yaml"
# A kind without a schema in this folder breaks the check.
SCHEMAS = f"{Path(__file__).parent}/schemas/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json"


def build(folder: Path) -> str:
    """Render a folder with kustomize and return its manifests as YAML.

    kustomize may not fetch remote files, because Argo CD could later fetch other content. Raises LoopError
    if the folder has no kustomization.yaml, if a `.argocd-source` file would change what Argo CD renders, and
    with kustomize's own message if that fails.
    """
    if beside := sorted(folder.glob(".argocd-source*")):
        raise LoopError(f"{beside[0]}: with this file Argo CD renders other manifests", fix="remove it")
    if not (folder / KUSTOMIZATION).is_file():
        fix = "name a model and an environment with an overlay"
        # loop.delivery.overlays.ABSENT reads the path from this text, as from kustomize's own
        raise LoopError(f"{folder}/{KUSTOMIZATION}: no such file or directory", fix=fix)
    command = [program("kustomize"), "build", str(folder)]
    done = subprocess.run(command, env={**os.environ, **OFFLINE}, capture_output=True, text=True, check=False)
    if done.returncode:
        fix = "correct it; refer only to files in this clone"
        raise LoopError(f"{' '.join(command)}: {done.stderr.strip()}", fix=fix)
    return done.stdout


def documents(manifests: str) -> list[Manifest]:
    """Parse rendered YAML, and drop keys with null values because Kubernetes treats them as absent."""
    return [_given(document) for document in edited.yamls(manifests, "what kustomize renders") if document]


def check(
    root: Path,
    manifests: str,
    where: str,
    namespace: str | None = None,
    *,
    state: State | None = None,
    peak: int = 1,
) -> list[Manifest]:
    """Return the manifests. Raises Rejected, naming every fault, if one breaks a policy or its schema.

    `namespace` is given for a model's overlay, whose objects must all be in that namespace. With `state`, the
    autoscalers of a canary and of stable must allow the pods that the state names, and up to `peak` pods.
    """
    objects, breaches = documents(manifests), invalid(manifests)
    try:
        breaches += policy.breaches(objects)
        if namespace:
            breaches += appproject.breaches(root, objects, namespace)
        if state:
            breaches += too_few_pods(objects, state, peak)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        breaches.append(f"a field is missing or malformed in an object: {error!r}")
    if breaches:
        raise Rejected(f"{where}:\n" + "\n".join(f"- {breach}" for breach in breaches))
    return objects


def invalid(manifests: str) -> list[str]:
    """Return what breaks the schemas of the manifests' kinds, in kubeconform's words."""
    command = [program("kubeconform"), "-strict", "-output", "text", "-schema-location", SCHEMAS]
    done = subprocess.run(command, input=manifests, capture_output=True, text=True, check=False)
    breaches = [line.removeprefix("stdin - ") for line in (done.stdout + done.stderr).splitlines()]
    if done.returncode and not breaches:
        breaches.append("kubeconform failed without a message")
    return breaches


def too_few_pods(objects: list[Manifest], state: State, peak: int) -> Iterator[str]:
    """Yield each autoscaler that allows fewer pods than a track needs now or at a later step."""
    tracks = {"serving-stable": state.stable, "serving-canary": state.canary}
    for scaler in of("HorizontalPodAutoscaler", objects) if state.canary else ():
        name, spec = scaler["metadata"]["name"], scaler["spec"]
        track, least, most = tracks.get(name), spec.get("minReplicas", 1), spec["maxReplicas"]
        if track and least < (track.replicas or 1):
            yield (
                f"HorizontalPodAutoscaler {name}: minReplicas is {least}, must be {track.replicas} at step "
                f"{step_of(state)}; remove the patch that sets it, or lower canary.peak in params.yaml"
            )
        if track and most < peak:
            yield (
                f"HorizontalPodAutoscaler {name}: maxReplicas is {most}, but canary.peak in params.yaml says "
                f"that all traffic needs {peak} pods; raise maxReplicas or lower canary.peak"
            )


def _given(node: Any) -> Any:
    if isinstance(node, list):
        return [_given(each) for each in node]
    if isinstance(node, dict):
        return {key: _given(value) for key, value in node.items() if value is not None}
    return node
