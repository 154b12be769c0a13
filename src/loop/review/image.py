"""Computes the size of what a model adds to its base image, before the image is built."""

from collections.abc import Iterable
from pathlib import Path

from loop.core import plain
from loop.core.errors import LoopError
from loop.core.paths import environment
from loop.core.project import Project
from loop.packaging.key import sources


def sizes(project: Project) -> dict[str, int]:
    """Return the bytes of packages (installed from the bento's lock, without bytecode), code and model.

    The sizes are of the image that environment dev serves; empty if the tree has no bento of this model.
    Raises LoopError if the lock cannot be installed.
    """
    if not project.bento.is_dir():
        return {}
    device = plain.device(project)
    lock = project.root / plain.serving_lock(project.model, device)
    installed = (path for path in environment(lock).rglob("*") if path.suffix != ".pyc")
    found = {"packages": _bytes(installed), "code": _bytes(path for _, path in sources(project, device))}
    try:
        return found | {"model": project.lock.model_size(project.model)}
    except LoopError:  # the model is not trained there, for instance on the base branch of a new model
        return found


def _bytes(paths: Iterable[Path]) -> int:
    return sum(path.stat().st_size for path in paths if path.is_file() and not path.is_symlink())
