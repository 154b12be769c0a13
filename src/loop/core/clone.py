"""Where a command reads Git: the work tree that it runs in, or where there is none a clone of its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from loop.core import repository
from loop.core.git import Git, bare
from loop.core.github import authorized


@contextmanager
def opened(root: Path, *, clone: bool | None = None) -> Iterator[Git]:
    """The work tree at `root`; where that is none, or with `clone`, a scratch clone of what it says it is."""
    if clone or (clone is None and not (root / ".git").exists()):
        own = repository.read(root)
        with bare(own.clone_url, partial(authorized, own.server)) as git:
            yield git
    else:
        yield Git(root)
