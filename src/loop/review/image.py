"""What goes into a model's image beside its base, in bytes: told before anything is built."""

from collections.abc import Iterable
from pathlib import Path

from loop.core import plain
from loop.core.dvc import Lock
from loop.core.errors import LoopError
from loop.core.paths import ModelPaths, environment
from loop.packaging.key import sources


def sizes(root: Path, model: str) -> dict[str, int]:
    """Bytes of packages (as the bento's lock installs them, without bytecode), model, and code.

    They are of the image that dev serves.

    Empty where the tree has no bento of this model. LoopError when its lock does not install.
    """
    if not ModelPaths(root, model).bento.is_dir():
        return {}
    device = plain.device(root, model)
    lock = root / plain.serving_lock(model, device)
    installed = (path for path in environment(lock).rglob("*") if path.suffix != ".pyc")
    found = {
        "packages": _bytes(installed),
        "code": _bytes(path for _, path in sources(root, model, device)),
    }
    try:
        return found | {"model": Lock.of(root).model_size(model)}
    except LoopError:  # a model that its base branch has not trained
        return found


def _bytes(paths: Iterable[Path]) -> int:
    return sum(path.stat().st_size for path in paths if path.is_file() and not path.is_symlink())
