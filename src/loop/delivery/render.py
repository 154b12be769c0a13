"""What Argo CD will apply: an overlay rendered by kustomize, and checked by schema and policy."""

import os
import subprocess
from pathlib import Path
from typing import Any

from loop.core import edited
from loop.core.errors import LoopError, Rejected
from loop.core.names import public
from loop.core.programs import program
from loop.delivery import policy, project

# kustomize finds git on PATH, and fetches over HTTP through a proxy. With neither it fetches nothing.
OFFLINE = {"PATH": "/dev/null", "NO_PROXY": "", "no_proxy": ""} | dict.fromkeys(
    ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), "http://127.0.0.1:9"
)
SCHEMAS = "tests/manifests/schemas/{{.ResourceKind}}{{.KindSuffix}}.json"


def overlay(root: Path, model: str, environment: str) -> Path:
    """An environment's folder of a model; LoopError where there is none."""
    path = root / "kustomize" / "overlays" / environment / public(model)
    if not (path / "kustomization.yaml").is_file():
        raise LoopError(
            f"{path}/kustomization.yaml does not exist", fix="name a model and an environment that have one"
        )
    return path


def build(root: Path, folder: Path) -> str:
    """A folder's manifests as YAML; LoopError with kustomize's own words.

    kustomize fetches nothing, because what it fetched could differ from what Argo CD fetches later. LoopError
    also for a file by which Argo CD would change what kustomize renders.
    """
    if beside := sorted(folder.glob(".argocd-source*")):
        raise LoopError(f"{beside[0]}: Argo CD would apply other manifests than these", fix="remove it")
    return _run([program(root, "kustomize"), "build", str(folder)])


def documents(manifests: str) -> list[dict[str, Any]]:
    """Rendered YAML as plain data, without nulls: to Kubernetes, such a key is not there."""
    return [_given(document) for document in edited.yamls(manifests, "what kustomize renders") if document]


def check(root: Path, manifests: str, where: str, namespace: str | None = None) -> None:
    """Rejected where a manifest breaks a policy or its schema; every breach is named.

    `namespace` is the overlay's own, for a model's manifests: it may hold everything that they render.
    """
    objects, breaches = documents(manifests), _schemas(root, manifests)
    try:
        breaches += policy.breaches(objects)
        if namespace:
            breaches += project.breaches(root, objects, namespace)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        breaches.append(f"an object lacks what its kind has, or has it in another form: {error!r}")
    if breaches:
        raise Rejected(f"{where}:\n" + "\n".join(f"- {breach}" for breach in breaches))


def _given(node: Any) -> Any:
    if isinstance(node, list):
        return [_given(each) for each in node]
    if isinstance(node, dict):
        return {key: _given(value) for key, value in node.items() if value is not None}
    return node


def _schemas(root: Path, manifests: str) -> list[str]:
    """What kubeconform finds against the schemas kept in the repository; a kind without one is a finding."""
    command = [
        program(root, "kubeconform"),
        "-strict",
        "-output",
        "text",
        "-schema-location",
        str(root / SCHEMAS),
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
