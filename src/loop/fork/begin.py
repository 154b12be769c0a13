"""Sets up a team's fork for `loop init`: lists the changes that the given values need."""

import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from loop.core import plain, repository
from loop.core.dvc import default_remote, dvc
from loop.core.errors import LoopError
from loop.core.git import Git
from loop.core.names import public
from loop.fork import folders

STORE = "storage"  # name of the DVC remote that `loop init --remote` writes
# The values that a person gave to `loop init`, by option. None keeps the current value.
Given = Mapping[str, str | None]


@dataclass(frozen=True)
class Change:
    """A change that `loop init` shows to a person before making it."""

    what: str
    now: str
    then: str
    make: Callable[[], object]


def now(root: Path) -> dict[str, str]:
    """Return the current value of each option of `loop init`, except `mlflow`."""
    known = plain.read(root)
    return {
        **{key: str(value) for key, value in repository.stated(root).items()},
        "models": ",".join(map(public, known)),
        "environments": ",".join(plain.environments(root)),
        "remote": default_remote(root, local=False),
    }


def suggested(root: Path) -> dict[str, str]:
    """Return the defaults that `loop init` offers: the current values.

    If argocd/repository.yaml still has the template's URL, then name, URL and registry are derived from the
    URL of the Git remote origin.
    """
    values, git = now(root), Git(root)
    url = git.run("remote", "get-url", "origin") if "origin" in git.run("remote").split() else ""
    found = repository.URL.fullmatch(repository.masked(url).replace("***@", ""))
    if found and repository.TEMPLATE in values.get("url", ""):
        owner, _, name = found["path"].lower().rpartition("/")
        values |= {"name": name.replace("_", "-").replace(".", "-"), "url": re.sub(r"//[^/@]*@", "//", url)}
        values |= {"registry": f"ghcr.io/{owner}"} if found["host"] == "github.com" else {}
    return values


def changes(root: Path, given: Given) -> list[Change]:
    """Return the changes that the values need, without making one. Raises LoopError if a value is invalid.

    A value that is there already needs no change.
    """
    stated, found = repository.stated(root), list[Change]()
    if named := {key: value for key in ("name", "url", "registry") if (value := given[key]) is not None}:
        wanted = repository.initialised(root, named)
        write = partial(repository.write, root, wanted)
        found = [
            Change(key, repository.masked(str(stated.get(key, ""))), then, write)
            for key, then in asdict(wanted).items()
            if then != stated.get(key)
        ]
    for what, leaving, delete in (
        ("models", folders.unwanted, folders.drop),
        ("environments", folders.leaving, _drop_environments),
    ):
        value = given[what]
        if value is not None and (gone := leaving(root, value.split(","))):
            without = f"without {', '.join(map(public, gone))}; their folders are deleted"
            found.append(Change(what, now(root)[what], without, partial(delete, root, gone)))
    remote = given["remote"]
    if remote is not None and remote != (current := default_remote(root, local=False)):
        if repository.masked(remote) != remote:
            raise LoopError(
                f"--remote is {repository.masked(remote)!r}, which contains a credential",
                fix="give the address alone; pass credentials as environment variables, as AWS_ACCESS_KEY_ID",
            )
        add = ("remote", "add", "--default", "--force", "--quiet", STORE, remote)
        found.append(Change("remote", current or "none", remote, partial(dvc, root, *add, quiet=True)))
    return found


def _drop_environments(root: Path, environments: list[str]) -> None:
    for environment in environments:
        shutil.rmtree(root / plain.OVERLAYS / environment)
