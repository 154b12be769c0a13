"""Shows what a change alters beside the model: rendered manifests, and packages of hashed lock files."""

import difflib
import html
from collections.abc import Iterable
from pathlib import Path

from loop.core import edited
from loop.core.git import Git
from loop.core.markdown import fenced, inert, quiet
from loop.core.names import public
from loop.delivery import render

OVERLAYS = "kustomize/overlays"
RENDERED = (f"{OVERLAYS}/*/*", "kustomize/platform", "argocd")  # folders that Argo CD or a person applies
MOST = 400  # maximum number of diff lines in a comment, over all folders


def differences(before: Path, after: Path, model: str | None = None) -> dict[str, list[str]]:
    """Return the diff lines by folder: of the model's own overlays always, of others if they differ."""
    files = Git(after).run("diff", "--name-only", Git(before).head(), "--", "kustomize", "argocd")
    folders = {
        path.parent.relative_to(root)
        for root in (before, after)
        for folder in RENDERED
        for path in root.glob(f"{folder}/kustomization.yaml")
    }
    found = {}
    for folder in sorted(folders):
        old, new = (_rendered(root / folder) if files else [] for root in (before, after))
        lines = list(difflib.unified_diff(old, new, "before", "after", lineterm="", n=4))
        if lines or (model and folder.name == public(model)):
            found[str(folder).removeprefix(f"{OVERLAYS}/")] = lines
    return found


def markdown(found: dict[str, list[str]]) -> str:
    """Format the diffs as Markdown: each is collapsed below a line that gives its size."""
    most = MOST // max(1, sum(bool(lines) for lines in found.values()))
    return "\n\n".join(_told(name, lines, most) for name, lines in found.items())


def _told(folder: str, lines: list[str], most: int) -> str:
    if not lines:
        return f"- {inert(folder)}: nothing changes"
    added, removed = (sum(line.startswith(sign) for line in lines[2:]) for sign in "+-")
    rest = [f"… and {len(lines) - most} lines more"] if len(lines) > most else []
    shown = fenced("\n".join([*lines[:most], *rest]), "diff")
    said = f"<summary><code>{html.escape(quiet(folder))}</code>: +{added} -{removed} lines</summary>"
    return f"<details>{said}\n\n{shown}\n</details>"


def _rendered(folder: Path) -> list[str]:
    if not (folder / "kustomization.yaml").is_file():
        return []
    return render.build(folder).splitlines()


def packages(before: Path, after: Path, locks: Iterable[str]) -> list[tuple[str, str, str, str]]:
    """Return (lock, package, version before, version after) of each difference; "-" stands for no version."""
    found = []
    for lock in locks:
        old, new = _versions(before / lock), _versions(after / lock)
        both = ((name, old.get(name, "-"), new.get(name, "-")) for name in sorted({*old, *new}))
        found += [(lock, name, was, now) for name, was, now in both if was != now]
    return found


def _versions(lock: Path) -> dict[str, str]:
    if not lock.is_file():
        return {}
    pinned = (each.partition(";")[0].strip().partition("==") for each in edited.locked(lock))
    return {name: version for name, _, version in pinned}
