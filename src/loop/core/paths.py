"""Paths of the repository's files and folders, relative to its root.

No function of this module creates a folder in a clone.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from loop.core.errors import LoopError, Rejected

# the package `loop`: src/loop in a clone, or the installed package
LIBRARY = Path(__file__).resolve().parents[1]
SHIPPED = LIBRARY / "template"  # a wheel of the engine contains a copy of the template's files in this folder
TEMPLATE = SHIPPED if SHIPPED.is_dir() else LIBRARY.parents[1]
TOOLS = TEMPLATE / "tools"


def root() -> Path:
    """Return the working directory or its nearest parent with params.yaml and dvc.yaml, else LoopError."""
    here = Path.cwd().resolve()
    for folder in (here, *here.parents):
        if (folder / "params.yaml").is_file() and (folder / "dvc.yaml").is_file():
            return folder
    raise LoopError(f"{here} is not inside a clone: no parent folder contains both params.yaml and dvc.yaml")


# The files of data/<package>/ that Git tracks: metrics, the list of production's logged files to train on,
# and DVC's .gitignore.
KEPT = ("metrics.json", "logged.json", ".gitignore")


def library(root: Path) -> Path:
    """Return the folder of the package `loop` that a clone runs: its src/loop, or the installed package."""
    own = root / "src" / "loop"
    return own if own.is_dir() else LIBRARY


def tracked(paths: Iterable[str]) -> Rejected | None:
    """Return a Rejected error if `paths`, which Git tracks, contain outputs of DVC stages, otherwise None.

    These are all files in data/<package>/ except those in KEPT.
    """
    inside = (path for path in paths if path.startswith("data/") and path.count("/") > 1)
    if not (found := sorted(path for path in inside if path.split("/", 2)[2] not in KEPT)):
        return None
    shown = ", ".join(found[:3]) + (f" and {len(found) - 3} more" if found[3:] else "")
    return Rejected(
        f"Git tracks outputs of stages, which belong to DVC: {shown}",
        fix="git rm -r --cached --quiet data && git add data && git commit; .gitignore then excludes them. "
        "If they contain secrets, remove them from the history too",
    )


def matching(globs: Iterable[str]) -> re.Pattern[str]:
    """Return a pattern of paths: `*` matches a part of one name, and a final `/*` all below a folder."""
    parts = (re.escape(glob).replace(r"\*", ".*" if glob.endswith("/*") else "[^/]*") for glob in globs)
    return re.compile("|".join(parts))


def cache() -> Path:
    """Return the folder of what all clones share: environments, programs, caches, empty MLflow databases."""
    base = os.environ.get("LOOP_CACHE")
    xdg = os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))
    return Path(base) if base else Path(xdg) / "loop"


def environment(lock: Path) -> Path:
    """Return the folder of a lock file's Python environment, which is created if missing."""
    return Path(_output("environment", str(lock)))


def programs() -> str:
    """Return the folder with act, kustomize, kubeconform, actionlint and crane, built if missing."""
    return _output("programs")


def program(name: str) -> str:
    """Return the path of a Go program of tools/go.mod, or in the monitor's image of the one on PATH."""
    if not (TOOLS / "programs").is_file() and (found := shutil.which(name)):
        return found
    return f"{programs()}/{name}"


def _output(tool: str, *args: str) -> str:
    """Run a script of tools/ and return what it prints. Raises LoopError if it fails or does not exist."""
    script = TOOLS / tool
    if not script.is_file():
        raise LoopError(f"{script} does not exist", fix="run this in a clone")
    done = subprocess.run([script, *args], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise LoopError(f"tools/{' '.join((tool, *args))} failed; its output is above")
    return done.stdout.strip()
