"""What `argocd/` permits models. Overlays are checked against it before Argo CD sees them."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from loop.core import edited
from loop.core.errors import LoopError
from loop.delivery.workloads import Manifest, of, workloads

PROJECT, ADMISSION = "argocd/projects.yaml", "argocd/admission.yaml"
MATCHES = re.compile(r"request\.namespace\.matches\('(.+)'\)")
TEMPLATE = "take it from the template"
FIX = "add the environment, then kubectl apply --server-side -k argocd/"
HOOKS = {"argocd.argoproj.io/hook", "helm.sh/hook"}
SINCE = [1, 34]  # older versions of "restricted" refuse less
MODEL, ENVIRONMENT = "app.kubernetes.io/name", "environment"
ENFORCE = "pod-security.kubernetes.io/enforce"


def breaches(root: Path, manifests: list[Manifest], namespace: str) -> Iterator[str]:
    """Each object of an overlay that is outside its namespace, or of a kind that its project does not allow.

    `argocd/` must know the environment, too: otherwise Argo CD refuses the overlay, or no admission policy
    applies to its pods. LoopError where a file of `argocd/` cannot be read.
    """
    with _named(PROJECT):
        project = _read(root, PROJECT, "AppProject")
        whole, inner = (_kinds(project, f"{scope}ResourceWhitelist") for scope in ("cluster", "namespace"))
        destinations = [fnmatchcase(namespace, each["namespace"]) for each in project["destinations"]]
    with _named(ADMISSION):
        admitted = [re.search(pattern, namespace) for pattern in _admitted(root)]
    for manifest in manifests:
        kind, metadata = manifest["kind"], manifest["metadata"]
        known, told = (manifest["apiVersion"].rpartition("/")[0], kind), f"{kind} {metadata['name']}"
        if known not in whole | inner:
            yield f"{told}: {PROJECT} does not allow a model this kind"
        elif known in inner and metadata.get("namespace") != namespace:
            yield f"{told}: is in namespace {metadata.get('namespace')}, must be in {namespace}"
        elif known in whole and metadata["name"] != namespace:
            yield f"{told}: must be named {namespace}, as the overlay's own namespace"
        if hooks := HOOKS & metadata.get("annotations", {}).keys():
            yield f"{told}: must not be a hook ({min(hooks)}): Argo CD skips it, or takes it away again"
    for each in of("Namespace", manifests):
        yield from _lax(each)
    yield from _strange(manifests, namespace)
    if not any(destinations):
        yield f"{PROJECT}: no destination of the project models is {namespace}: {FIX}"
    if not any(admitted):
        yield f"{ADMISSION}: no pod of {namespace} would be checked when it is admitted: {FIX}"


@contextmanager
def _named(path: str) -> Iterator[None]:
    """Name the file where a value is missing or of another form."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError, re.error) as error:
        raise LoopError(f"{path}: has not the form that it should: {error!r}", fix=TEMPLATE) from error


def _strange(manifests: list[Manifest], namespace: str) -> Iterator[str]:
    """Labels of another model or environment, as a copied folder has them."""
    found: dict[str, list[str]] = {}
    for manifest in manifests:
        templates = [each.template for each in workloads([manifest])]
        for labels in (each.get("metadata", {}).get("labels", {}) for each in (manifest, *templates)):
            named = f"{labels.get(MODEL)}-{labels.get(ENVIRONMENT)}"
            if {MODEL, ENVIRONMENT} <= labels.keys() and named != namespace:
                found.setdefault(named, []).append(f"{manifest['kind']} {manifest['metadata']['name']}")
    for named, objects in found.items():
        yield (
            f"{objects[0]}, and {len(objects) - 1} more: labels {MODEL} and {ENVIRONMENT} say {named}, "
            f"must say {namespace}: judge, alerts and gateway go by them"
        )


def _lax(namespace: Manifest) -> Iterator[str]:
    """How a namespace's pod security is not the strictest."""
    labels, name = namespace["metadata"].get("labels", {}), namespace["metadata"]["name"]
    if (found := labels.get(ENFORCE)) != "restricted":
        yield f"Namespace {name}: label {ENFORCE} is {found}, must be restricted"
    version = str(labels.get(f"{ENFORCE}-version", "latest"))
    if version != "latest" and [int(part) for part in re.findall(r"\d+", version)] < SINCE:
        yield f"Namespace {name}: label {ENFORCE}-version is {version}, must be v1.34 or newer"


def _admitted(root: Path) -> list[str]:
    """The patterns of namespaces whose pods the admission policy checks."""
    conditions = _read(root, ADMISSION, "ValidatingAdmissionPolicy")["matchConditions"]
    return [found[1] for each in conditions if (found := MATCHES.fullmatch(each["expression"]))]


def _read(root: Path, path: str, kind: str) -> dict[str, Any]:
    """The spec of a file's object that is named `models`."""
    documents = edited.yamls(edited.read(root / path, path, TEMPLATE), path, TEMPLATE)
    try:
        (spec,) = [
            each["spec"] for each in documents if (each["kind"], each["metadata"]["name"]) == (kind, "models")
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise LoopError(f"{path}: has no {kind} models: {error}", fix=TEMPLATE) from error
    return dict(spec)


def _kinds(project: dict[str, Any], key: str) -> set[tuple[str, str]]:
    return {(each["group"], each["kind"]) for each in project[key]}
