"""Which files of a clone are the template's: those that `loop upgrade` merges, and that a wheel carries."""

import re
from collections.abc import Iterable

# The team's files. An upgrade never touches these; a migration may, and says so.
TEAM = (
    "README.md", "CHANGELOG.md", "LICENSE", "params.yaml", "requirements.in", "argocd/repository.yaml",
    ".github/CODEOWNERS", ".ci/*", "dvc.lock", "data/*", "src/models/*", "bentos/*",
    "kustomize/models/*", "kustomize/overlays/*",
)  # fmt: skip
# The files that every fork has from the template.
LAYER = (
    ".dvc/*", ".dvcignore", ".gitattributes", ".github/*", ".gitignore", ".loop/*", "Makefile", "SECURITY.md",
    "argocd/*", "dvc.yaml", "images/*", "kustomize/*", "loop", "pyproject.toml", "requirements.lock",
    "requirements-gpu.lock", "tools/environment", "tools/programs", "tools/needs", "tools/go.mod",
    "tools/go.sum", "tools/*.lock",
)  # fmt: skip
# The files that only a fork with the source has (`loop init --vendor`).
SOURCE = ("CONTRIBUTING.md", "docs/*", "src/*", "tests/*", "tools/*")


def _pattern(globs: Iterable[str]) -> re.Pattern[str]:
    """One expression for all: `*` at the end is everything below, elsewhere a part of a name."""
    parts = (re.escape(glob).replace(r"/\*", "/.*") if glob.endswith("/*") else
             re.escape(glob).replace(r"\*", "[^/]*") for glob in globs)  # fmt: skip
    return re.compile("|".join(parts))


_TEAM, _LAYER, _SOURCE = map(_pattern, (TEAM, LAYER, SOURCE))


def owned(path: str, *, vendored: bool) -> bool:
    """Whether a path is the template's, in a fork that keeps the source or in one that does not."""
    if _TEAM.fullmatch(path):
        return False
    return bool(_LAYER.fullmatch(path) or (vendored and _SOURCE.fullmatch(path)))
