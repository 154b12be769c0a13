"""params.yaml as plain data, for commands that need little of it: building the types takes 0.1 s."""

from pathlib import Path
from typing import Any, Literal, get_args

from loop.core import edited
from loop.core.errors import LoopError
from loop.core.names import package

FILE = "params.yaml"
Device = Literal["cpu", "cuda"]
Environment = Literal["dev", "staging", "production"]
ENVIRONMENTS: tuple[Environment, ...] = get_args(Environment)  # in the order in which a release reaches them


def text(root: Path) -> str:
    """The file's text."""
    return edited.read(root / FILE, str(root / FILE), "take it from the template, or from Git's history")


def read(root: Path) -> dict[str, Any]:
    """Every model's section: `{model: section}`."""
    return edited.sections(text(root), FILE)


def section(models: dict[str, Any], model: str, where: str = FILE) -> Any:
    """One model's section of those that `where` has; LoopError where it has none."""
    name = package(model)
    if name not in models:
        raise LoopError(
            f"{where} has no model {name!r}; it has {', '.join(sorted(models))}",
            fix="add a section under `models:`, or name one of these",
        )
    return models[name]


def device(root: Path, model: str, environment: str = ENVIRONMENTS[0]) -> Device:
    """`serve.device` of an environment. Only this key is read, so commits with an older schema work too."""
    found = _packed(root, model, "serve", "device")
    if isinstance(found, dict):
        found = found.get(environment)
    return "cuda" if found == "cuda" else "cpu"


def by_device(root: Path, model: str) -> dict[Device, list[str]]:
    """The environments that share a device, and so a release; both in the order of ENVIRONMENTS."""
    found: dict[Device, list[str]] = {}
    for environment in ENVIRONMENTS:
        found.setdefault(device(root, model, environment), []).append(environment)
    return found


def serving_lock(model: str, device: Device) -> str:
    """The lock that a model's bento packs for a device, below the root."""
    return f"bentos/{package(model)}/requirements{'-cuda' if device == 'cuda' else ''}.lock"


def latency_target(root: Path, model: str) -> float | None:
    """`sla.p99_ms`, which is packed, as a server's histogram has an edge there. Read as `device` is."""
    target = _packed(root, model, "sla", "p99_ms")
    return float(target) if target else None


def _packed(root: Path, model: str, part: str, key: str) -> Any:
    found = (read(root).get(package(model)) or {}).get(part)
    return found.get(key) if isinstance(found, dict) else None
