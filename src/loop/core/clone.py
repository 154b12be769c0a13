"""Opens the Git repository that a command reads: the work tree, or a temporary clone outside a work tree."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from loop.core import repository
from loop.core.git import Git, bare
from loop.core.github import authorized


@contextmanager
def opened(root: Path, *, clone: bool | None = None) -> Iterator[Git]:
    """Yield the work tree at `root`, or a temporary bare clone of the URL in its argocd/repository.yaml.

    A clone is made if `clone` is true, and by default if `root` has no .git, as in the monitor's image.
    """
    if clone or (clone is None and not (root / ".git").exists()):
        own = repository.read(root)
        with bare(own.clone_url, partial(authorized, own.server)) as git:
            yield git
    else:
        yield Git(root)
