"""Where things are, relative to the repository's root. Nothing here creates a folder."""

import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from loop.core.errors import LoopError, Rejected
from loop.core.names import package, public

LIBRARY = Path(__file__).resolve().parents[1]  # the package `loop`: src/loop of a clone, or installed
SHIPPED = LIBRARY / "template"  # a wheel's copy of the template's own files
TEMPLATE = SHIPPED if SHIPPED.is_dir() else LIBRARY.parents[1]
TOOL = TEMPLATE / "tools" / "environment"


def root(start: Path | None = None) -> Path:
    """The repository's root: the nearest folder upward that holds params.yaml and dvc.yaml."""
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / "params.yaml").is_file() and (folder / "dvc.yaml").is_file():
            return folder
    raise LoopError(f"{here} is not inside a clone: no params.yaml beside a dvc.yaml upward of it")


# What Git has in data/<package>/: metrics, the list of the store's files that a training reads, DVC's list.
KEPT = ("metrics.json", "logged.json", ".gitignore")


def library(root: Path) -> Path:
    """The package `loop` that a clone runs: its own src/loop, or the installed one."""
    own = root / "src" / "loop"
    return own if own.is_dir() else LIBRARY


def outputs(paths: Iterable[str]) -> list[str]:
    """Those of a repository's paths that DVC keeps: all of data/<package>/ but what KEPT names."""
    inside = (path for path in paths if path.startswith("data/") and path.count("/") > 1)
    return sorted(path for path in inside if path.split("/", 2)[2] not in KEPT)


def tracked(paths: Iterable[str]) -> Rejected | None:
    """The error where Git tracks outputs of stages; `paths` are those that it tracks."""
    if not (found := outputs(paths)):
        return None
    shown = ", ".join(found[:3]) + (f" and {len(found) - 3} more" if found[3:] else "")
    return Rejected(
        f"Git tracks outputs of stages, which belong to DVC: {shown}",
        fix="git rm -r --cached --quiet data && git add data && git commit; .gitignore leaves them out. "
        "If they hold secrets, take them out of the history too",
    )


def cache() -> Path:
    """What outlives a clone: environments, programs, caches of DVC and of images, MLflow's empty tables."""
    base = os.environ.get("LOOP_CACHE")
    xdg = os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))
    return Path(base) if base else Path(xdg) / "loop"


def environment(lock: Path) -> Path:
    """The folder of the environment of a hashed lock, made if need be (tools/environment)."""
    if not TOOL.is_file():  # as in the monitor's image, which has what it needs
        raise LoopError(f"{lock}: there is no {TOOL} to install it", fix="run this in a clone")
    done = subprocess.run([TOOL, lock], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise LoopError(f"tools/environment {lock} failed: its words are above")
    return Path(done.stdout.strip())


@dataclass(frozen=True)
class ModelPaths:
    """Every path that belongs to one model."""

    root: Path
    model: str

    @cached_property
    def package(self) -> str:
        return package(self.model)

    @cached_property
    def data(self) -> Path:
        """Outputs of the DVC stages."""
        return self.root / "data" / self.package

    @property
    def raw(self) -> Path:
        return self.data / "raw.parquet"

    @property
    def logged(self) -> Path:
        """The files of production's store that rows come from; in Git, written by `retrain` and `pin`."""
        return self.data / "logged.json"

    @property
    def validation(self) -> Path:
        """Folder: quality.json and Data Docs."""
        return self.data / "validation"

    @property
    def features(self) -> Path:
        return self.data / "features.parquet"

    @property
    def trained(self) -> Path:
        """Folder: meta.json and the estimator's own files."""
        return self.data / "model"

    @property
    def reference(self) -> Path:
        """The training sample that drift is measured against."""
        return self.data / "reference.parquet"

    @property
    def scores(self) -> Path:
        return self.data / "scores.parquet"

    @property
    def metrics(self) -> Path:
        return self.data / "metrics.json"

    @property
    def plots(self) -> Path:
        return self.data / "plots"

    @property
    def build(self) -> Path:
        """What the candidate's commands leave for each other; ignored by git."""
        return self.root / "build" / self.package

    @property
    def source(self) -> Path:
        return self.root / "src" / "models" / self.package

    @property
    def bento(self) -> Path:
        return self.root / "bentos" / self.package

    def overlay(self, environment: str) -> Path:
        return self.root / "kustomize" / "overlays" / environment / public(self.model)

    def release(self, environment: str) -> Path:
        """The machine-owned state of one environment."""
        return self.overlay(environment) / "release" / "release.yaml"
