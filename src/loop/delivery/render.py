"""What Argo CD will apply: an overlay rendered by kustomize, and checked by schema and policy."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from loop.core import edited
from loop.core.errors import LoopError, Rejected
from loop.core.names import public
from loop.core.programs import program
from loop.delivery import policy, project
from loop.delivery.state import State
from loop.delivery.steps import step_of
from loop.delivery.workloads import of

# kustomize finds git on PATH, and fetches over HTTP through a proxy. With neither it fetches nothing.
OFFLINE = {"PATH": "/dev/null", "NO_PROXY": "", "no_proxy": ""} | dict.fromkeys(
    ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), "http://127.0.0.1:9"
)
KUSTOMIZATION = "kustomization.yaml"
SCHEMAS = f"{Path(__file__).parent}/schemas/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json"


def overlay(root: Path, model: str, environment: str) -> Path:
    """An environment's folder of a model; LoopError where there is none."""
    path = root / "kustomize" / "overlays" / environment / public(model)
    if not (path / KUSTOMIZATION).is_file():
        raise LoopError(
            f"{path}/{KUSTOMIZATION} does not exist", fix="name a model and an environment that have one"
        )
    return path


def build(folder: Path) -> str:
    """A folder's manifests as YAML; LoopError with kustomize's own words.

    kustomize fetches nothing, because what it fetched could differ from what Argo CD fetches later. LoopError
    also for a file by which Argo CD would change what kustomize renders.
    """
    if beside := sorted(folder.glob(".argocd-source*")):
        raise LoopError(f"{beside[0]}: Argo CD would apply other manifests than these", fix="remove it")
    return _run([program("kustomize"), "build", str(folder)])


def documents(manifests: str) -> list[dict[str, Any]]:
    """Rendered YAML as plain data, without nulls: to Kubernetes, such a key is not there."""
    return [_given(document) for document in edited.yamls(manifests, "what kustomize renders") if document]


def check(
    root: Path,
    manifests: str,
    where: str,
    namespace: str | None = None,
    *,
    state: State | None = None,
    peak: int = 1,
) -> None:
    """Rejected where a manifest breaks a policy or its schema; every breach is named.

    `namespace` is the overlay's own, for a model's manifests: it may hold everything that they render. With
    `state`, its autoscalers must give a canary and the stable beside it the pods that it names, up to `peak`.
    """
    objects, breaches = documents(manifests), _schemas(manifests)
    try:
        breaches += policy.breaches(objects)
        if namespace:
            breaches += project.breaches(root, objects, namespace)
        if state:
            breaches += _too_few_pods(objects, state, peak)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        breaches.append(f"an object lacks what its kind has, or has it in another form: {error!r}")
    if breaches:
        raise Rejected(f"{where}:\n" + "\n".join(f"- {breach}" for breach in breaches))


def _too_few_pods(objects: list[dict[str, Any]], state: State, peak: int) -> Iterator[str]:
    """Autoscalers that would give a track fewer pods than its traffic takes, now or at a later step."""
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
                f"HorizontalPodAutoscaler {name}: maxReplicas is {most}, and canary.peak in params.yaml says "
                f"that all traffic takes {peak} pods; raise the one or lower the other"
            )


def _given(node: Any) -> Any:
    if isinstance(node, list):
        return [_given(each) for each in node]
    if isinstance(node, dict):
        return {key: _given(value) for key, value in node.items() if value is not None}
    return node


def _schemas(manifests: str) -> list[str]:
    """What kubeconform finds against the schemas kept in the repository; a kind without one is a finding."""
    command = [
        program("kubeconform"),
        "-strict",
        "-output",
        "text",
        "-schema-location",
        SCHEMAS,
    ]
    done = subprocess.run(command, input=manifests, capture_output=True, text=True, check=False)
    found = [line.removeprefix("stdin - ") for line in (done.stdout + done.stderr).splitlines()]
    return found or (["kubeconform failed without a word"] if done.returncode else [])


def _run(command: list[str]) -> str:
    done = subprocess.run(command, env={**os.environ, **OFFLINE}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LoopError(
            f"{' '.join(command)}: {done.stderr.strip()}", fix="mend it; name files of this clone only"
        )
    return done.stdout
