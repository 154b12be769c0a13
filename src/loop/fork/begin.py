"""Sets up a team's fork for `loop init`: lists the changes that the given values need, and applies them."""

import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from loop.core import plain, repository
from loop.core.dvc import default_remote, dvc
from loop.core.errors import LoopError
from loop.core.git import Git
from loop.core.names import public
from loop.fork import folders

STORE = "storage"  # name of the DVC remote that `loop init --remote` writes
# The values that a person gave to `loop init`, by option. None keeps the current value.
Given = Mapping[str, str | None]


class Change(NamedTuple):
    """A change that `loop init` shows to a person before applying it."""

    what: str
    now: str
    then: str


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
    """Return the changes that the values need, without writing. Raises LoopError if a value is invalid."""
    stated, found = repository.stated(root), []
    if named := _named(given):
        then = asdict(repository.initialised(root, named))
        found = [
            Change(key, repository.masked(str(stated.get(key, ""))), then[key])
            for key in then
            if then[key] != stated.get(key)
        ]
    for what, going in (("models", folders.unwanted), ("environments", folders.leaving)):
        value = given[what]
        if value is not None and (gone := going(root, value.split(","))):
            without = f"without {', '.join(gone)}; their folders are deleted"
            found.append(Change(what, now(root)[what], without))
    if (remote := _remote(root, given)) is not None:
        if repository.masked(remote) != remote:
            raise LoopError(
                f"--remote is {repository.masked(remote)!r}, which contains a credential",
                fix="give the address alone; pass credentials as environment variables, as AWS_ACCESS_KEY_ID",
            )
        found.append(Change("remote", default_remote(root, local=False) or "none", remote))
    return found


def apply(root: Path, given: Given) -> None:
    """Write the values into the fork's files. Values that are there already are skipped."""
    if named := _named(given):
        repository.write(root, repository.initialised(root, named))
    if (models := given["models"]) is not None:
        folders.keep(root, models.split(","))
    if (environments := given["environments"]) is not None:
        for environment in folders.leaving(root, environments.split(",")):
            shutil.rmtree(root / plain.OVERLAYS / environment)
    if (remote := _remote(root, given)) is not None:
        dvc(root, "remote", "add", "--default", "--force", "--quiet", STORE, remote, quiet=True)


def _named(given: Given) -> dict[str, str]:
    """Return the given values that argocd/repository.yaml states."""
    return {key: value for key in ("name", "url", "registry") if (value := given[key]) is not None}


def _remote(root: Path, given: Given) -> str | None:
    """Return the given DVC remote if it is not the default one already."""
    remote = given["remote"]
    return None if remote is None or remote == default_remote(root, local=False) else remote
