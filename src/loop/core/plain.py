"""Reads params.yaml as plain dicts.

Commands that need only a few keys use it, because creating the typed objects takes 0.1 s.
"""

from pathlib import Path
from typing import Any, Literal

from loop.core import edited
from loop.core.errors import LoopError
from loop.core.names import package
from loop.core.project import Project

FILE = "params.yaml"
Device = Literal["cpu", "cuda"]
OVERLAYS = "kustomize/overlays"
# The template's environments, in the order in which a release reaches them. A fork may have others.
ENVIRONMENTS = ("dev", "staging", "production")


def text(root: Path) -> str:
    """Return the text of params.yaml. Raises LoopError if the file is missing or not UTF-8."""
    return edited.read(root / FILE, str(root / FILE), "take it from the template, or from Git's history")


def read(root: Path) -> dict[str, Any]:
    """Return every model's section of params.yaml. Raises LoopError if it is not valid YAML."""
    return edited.sections(text(root), FILE)


def at(node: Any, key: str, missing: Any = None) -> Any:
    """Return the value at a dotted key in nested dicts, or `missing` if a part of the key does not exist."""
    for part in key.split("."):
        if not isinstance(node, dict) or part not in node:
            return missing
        node = node[part]
    return node


def section(models: dict[str, Any], model: str, where: str = FILE) -> Any:
    """Return one model's section of `models`, read from `where`. Raises LoopError if it is missing."""
    name = package(model)
    if name not in models:
        raise LoopError(
            f"{where} has no model {name!r}; it has {', '.join(sorted(models))}",
            fix="add a section under `models:`, or name one of these",
        )
    return models[name]


def device(project: Project, environment: str | None = None) -> Device:
    """Return `serve.device` for an environment, by default the first one that a release reaches.

    It reads only this key, so it also works on commits whose params.yaml has an older schema.
    """
    found = at(read(project.root).get(project.package), "serve.device")
    if isinstance(found, dict):
        found = found.get(environment or environments(project.root)[0])
    return "cuda" if found == "cuda" else "cpu"


def environments(root: Path) -> list[str]:
    """Return the environments in the order in which a release reaches them; ENVIRONMENTS without overlays."""
    found = [path.name for path in (root / OVERLAYS).glob("*") if path.is_dir()] or ENVIRONMENTS
    return sorted(found, key=lambda name: (name == "production", name != "dev", name != "staging", name))


def by_device(project: Project) -> dict[Device, list[str]]:
    """Return {device: environments that serve on it}, in the order in which a release reaches them.

    Environments with the same device share a release. An environment without an overlay of the model gets
    none, unless the repository has no overlays at all.
    """
    found: dict[Device, list[str]] = {}
    overlays = project.root / OVERLAYS
    for environment in environments(project.root):
        if overlays.is_dir() and not (overlays / environment / project.public).is_dir():
            continue
        found.setdefault(device(project, environment), []).append(environment)
    return found


def serving_lock(model: str, device: Device) -> str:
    """Return the path, below the root, of the lock file that a model's image installs for a device."""
    return f"bentos/{package(model)}/requirements{'-cuda' if device == 'cuda' else ''}.lock"


def latency_target(project: Project) -> float | None:
    """Return `sla.p99_ms`, a bucket boundary of the server's latency histogram, or None if it is not set."""
    target = at(read(project.root).get(project.package), "sla.p99_ms")
    return float(target) if target else None
