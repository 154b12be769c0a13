"""What a change will do to the cluster: each environment's manifests, rendered before and after."""

import difflib
from pathlib import Path

from loop.core.names import public
from loop.delivery import render

MOST = 200  # lines of one environment's difference that a comment shows


def differences(before: Path, after: Path, model: str) -> dict[str, list[str]]:
    """Per environment, the lines of the difference; none where both render alike."""
    there = {path.parent.parent.name for root in (before, after) for path in _overlays(root, model)}
    return {name: _difference(before, after, model, name) for name in sorted(there)}


def markdown(found: dict[str, list[str]]) -> str:
    """The differences, folded away, with a line each that says how much there is."""
    return "\n\n".join(_told(name, lines) for name, lines in found.items())


def _told(environment: str, lines: list[str]) -> str:
    if not lines:
        return f"- {environment}: nothing changes"
    added, removed = (sum(line.startswith(sign) for line in lines[2:]) for sign in "+-")
    shown = "\n".join(line.replace("```", "` ` `") for line in lines[:MOST])
    rest = f"\n… and {len(lines) - MOST} lines more" if len(lines) > MOST else ""
    said = f"<summary>{environment}: +{added} -{removed} lines</summary>"
    return f"<details>{said}\n\n```diff\n{shown}{rest}\n```\n</details>"


def _difference(before: Path, after: Path, model: str, environment: str) -> list[str]:
    old, new = (_rendered(root, model, environment) for root in (before, after))
    return list(difflib.unified_diff(old, new, "before", "after", lineterm="", n=4))


def _rendered(root: Path, model: str, environment: str) -> list[str]:
    folder = root / "kustomize" / "overlays" / environment / public(model)
    if not (folder / "kustomization.yaml").is_file():
        return []
    return render.build(root, folder).splitlines()


def _overlays(root: Path, model: str) -> list[Path]:
    return list((root / "kustomize" / "overlays").glob(f"*/{public(model)}/kustomization.yaml"))
