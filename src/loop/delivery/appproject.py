"""Checks that `argocd/` permits what an overlay renders, before Argo CD would refuse it."""

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
TEMPLATE = "restore it from the template"
FIX = "add the environment there, then run kubectl apply --server-side -k argocd/"
HOOKS = {"argocd.argoproj.io/hook", "helm.sh/hook"}
SINCE = [1, 34]  # Kubernetes versions before this check fewer fields in the "restricted" profile
MODEL, ENVIRONMENT = "app.kubernetes.io/name", "environment"
ENFORCE = "pod-security.kubernetes.io/enforce"


def breaches(root: Path, manifests: list[Manifest], namespace: str) -> Iterator[str]:
    """Yield each object of an overlay outside its namespace, or of a kind that Argo CD may not deploy.

    Also yields a fault if `argocd/` does not list the environment, because then Argo CD would refuse the
    overlay or no admission policy would check its pods. Raises LoopError if a file of `argocd/` cannot be
    read.
    """
    with spec(root, PROJECT, "AppProject") as project:
        whole, inner = (
            {(each["group"], each["kind"]) for each in project[f"{scope}ResourceWhitelist"]}
            for scope in ("cluster", "namespace")
        )
        destinations = [fnmatchcase(namespace, each["namespace"]) for each in project["destinations"]]
    with spec(root, ADMISSION, "ValidatingAdmissionPolicy") as admission:
        expressions = [MATCHES.fullmatch(each["expression"]) for each in admission["matchConditions"]]
        patterns = (found[1] for found in expressions if found)
        admitted = [re.search(pattern, namespace) for pattern in patterns]
    for manifest in manifests:
        kind, metadata = manifest["kind"], manifest["metadata"]
        known, told = (manifest["apiVersion"].rpartition("/")[0], kind), f"{kind} {metadata['name']}"
        if known not in whole | inner:
            yield f"{told}: {PROJECT} does not allow models to deploy this kind"
        elif known in inner and metadata.get("namespace") != namespace:
            yield f"{told}: is in namespace {metadata.get('namespace')}, must be in {namespace}"
        elif known in whole and metadata["name"] != namespace:
            yield f"{told}: must be named {namespace}, the overlay's own namespace"
        if hooks := HOOKS & metadata.get("annotations", {}).keys():
            yield f"{told}: must not be a hook ({min(hooks)}), because Argo CD may skip or delete a hook"
    for each in of("Namespace", manifests):
        yield from _lax(each)
    yield from _strange(manifests, namespace)
    if not any(destinations):
        yield f"{PROJECT}: project models has no destination {namespace}: {FIX}"
    if not any(admitted):
        yield f"{ADMISSION}: the admission policy does not match namespace {namespace}: {FIX}"


def _strange(manifests: list[Manifest], namespace: str) -> Iterator[str]:
    """Yield labels that name another model or environment, which are left over in a copied folder."""
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
            f"must say {namespace}, because judge, alerts and gateway select by them"
        )


def _lax(namespace: Manifest) -> Iterator[str]:
    """Yield each way in which a namespace's pod security is below the profile "restricted" of v1.34."""
    labels, name = namespace["metadata"].get("labels", {}), namespace["metadata"]["name"]
    if (found := labels.get(ENFORCE)) != "restricted":
        yield f"Namespace {name}: label {ENFORCE} is {found}, must be restricted"
    version = str(labels.get(f"{ENFORCE}-version", "latest"))
    if version != "latest" and [int(part) for part in re.findall(r"\d+", version)] < SINCE:
        yield f"Namespace {name}: label {ENFORCE}-version is {version}, must be v1.34 or newer"


@contextmanager
def spec(root: Path, path: str, kind: str) -> Iterator[dict[str, Any]]:
    """Yield the spec of the object named `models` in a file.

    Raises LoopError, naming the file, if there is no such object or the block finds a malformed value in it.
    """
    documents = edited.yamls(edited.read(root / path, path, TEMPLATE), path, TEMPLATE)
    try:
        (found,) = (
            each["spec"] for each in documents if (each["kind"], each["metadata"]["name"]) == (kind, "models")
        )
        yield dict(found)
    except (AttributeError, KeyError, TypeError, ValueError, re.error) as error:
        what = f"{path}: no {kind} named models, or a value in it is missing or malformed: {error!r}"
        raise LoopError(what, fix=TEMPLATE) from error
