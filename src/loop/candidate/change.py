"""What commits change: code, models, manifests. Each is checked, whatever else changed with it."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from loop.core.dvc import Lock
from loop.core.git import Git

# What people tune and machines write. No test depends on it: tests set params and release states of their
# own. CI checks the fork's by `repro --check` and `render --check`.
NOT_CODE = re.compile(
    r"params\.yaml|dvc\.lock|data/.*|[^/]+\.md|docs/.*|kustomize/overlays/[^/]+/[^/]+/release/.*"
)
# What every model runs through on its way to a release.
SHARED = re.compile(r"(?s)src/loop/(core|stats|pipeline|candidate|serving)/.*|dvc\.yaml|requirements\.lock")
OF_MODEL = re.compile(r"(?s)(?:src/models|bentos|data)/(?P<model>[^/]+)/.*")
# What a cluster or an image is made of, beside the models.
MANIFESTS = re.compile(r"(?s)kustomize/.*|argocd/.*|(?!dvc\.lock).*\.lock")


@dataclass(frozen=True)
class Changed:
    code: bool  # lint and tests are due
    models: list[str]  # packages, sorted; each is evaluated
    manifests: bool  # every release state, and what it renders to, is checked


def changed(root: Path, base: str, head: str = "HEAD") -> Changed:
    """Compare `head` with the commit where it left `base`.

    Where no such commit is known (see `Git.fork_point`), all has changed.
    """
    git = Git(root)
    after = _facts(git, head)
    everything = sorted(after)
    if (begin := git.fork_point(base, head)) is None:
        return Changed(code=True, models=everything, manifests=True)
    paths = git.run("diff", "--name-only", "--no-renames", "-z", begin, head).split("\0")[:-1]
    if any(SHARED.fullmatch(path) for path in paths):
        return Changed(code=True, models=everything, manifests=True)
    before = _facts(git, begin)
    named = {found["model"] for path in paths if (found := OF_MODEL.fullmatch(path))}
    named |= {model for model in everything if before.get(model) != after[model]}
    code = any(not NOT_CODE.fullmatch(path) for path in paths)
    models = [model for model in everything if model in named]
    manifests = any(MANIFESTS.fullmatch(path) for path in paths)
    return Changed(code=code, models=models, manifests=manifests)


def _facts(git: Git, commit: str) -> dict[str, Any]:
    """Per model, what params.yaml asks for and what dvc.lock recorded at a commit."""
    text = git.read(commit, "params.yaml")
    sections = (YAML(typ="safe").load(text) or {}).get("models", {}) if text else {}
    stages = Lock.parse(git.read(commit, "dvc.lock") or "").stages
    return {
        model: (section, {name: entry for name, entry in stages.items() if name.endswith(f"@{model}")})
        for model, section in sections.items()
    }
