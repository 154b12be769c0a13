"""Decides which files belong to the template. `loop upgrade` merges these, and the wheel contains them."""

from pathlib import Path

from loop.core.paths import LIBRARY, matching

# The team's files. An upgrade changes these only by a migration, and lists each file that it changed.
TEAM = (
    "README.md", "CHANGELOG.md", "LICENSE", "params.yaml", "requirements.in", "argocd/repository.yaml",
    ".github/CODEOWNERS", ".ci/*", "dvc.lock", "data/*", "src/models/*", "bentos/*",
    "kustomize/models/*", "kustomize/overlays/*",
)  # fmt: skip
# The template's files that every fork has.
LAYER = (
    ".dvc/*", ".dvcignore", ".gitattributes", ".github/*", ".gitignore", ".loop/*", "Makefile", "SECURITY.md",
    "argocd/*", "dvc.yaml", "images/*", "kustomize/*", "loop", "pyproject.toml", "requirements.lock",
    "requirements-gpu.lock", "tools/environment", "tools/programs", "tools/needs", "tools/go.mod",
    "tools/go.sum", "tools/*.lock",
)  # fmt: skip
# The template's files that only a fork with the engine's source has (`loop init --vendor`).
SOURCE = ("CONTRIBUTING.md", "docs/*", "src/*", "tests/*", "tools/*")


_TEAM, _LAYER, _SOURCE = map(matching, (TEAM, LAYER, SOURCE))


def owned(path: str, *, vendored: bool) -> bool:
    """Whether a path belongs to the template; `vendored` says whether the fork has the engine's source."""
    if _TEAM.fullmatch(path):
        return False
    return bool(_LAYER.fullmatch(path) or (vendored and _SOURCE.fullmatch(path)))


def installed() -> dict[str, Path]:
    """Return the files of the running engine's version of the template, by their paths in a clone."""
    found = (file for top in ("loop", "loop_demo") for file in LIBRARY.with_name(top).rglob("*"))
    files = (file for file in found if file.is_file() and file.suffix != ".pyc")
    return {placed(file.relative_to(LIBRARY.parent).as_posix()): file for file in files}


def placed(name: str) -> str:
    """Return the path in a clone of the template for a file of the engine's wheels, or of their folder."""
    return name.removeprefix("loop/template/") if name.startswith("loop/template/") else f"src/{name}"
