"""Sets up a team's fork for `loop init`: lists the changes that the given values need, and applies them."""

import re
from dataclasses import asdict, dataclass
from pathlib import Path

from loop.core import plain, repository
from loop.core.dvc import default_remote, dvc
from loop.core.errors import LoopError
from loop.core.git import Git
from loop.core.names import public
from loop.fork import folders

STORE = "storage"  # name of the DVC remote that `loop init --remote` writes


@dataclass(frozen=True)
class Wanted:
    """The values that a person gave to `loop init`. None keeps the current value.

    `mlflow` is only printed for the person, because no file of a fork contains it.
    """

    name: str | None = None
    url: str | None = None
    registry: str | None = None
    models: str | None = None
    environments: str | None = None
    remote: str | None = None
    mlflow: str | None = None

    @property
    def named(self) -> dict[str, str]:
        """Return the given values that argocd/repository.yaml states."""
        own = {"name": self.name, "url": self.url, "registry": self.registry}
        return {key: value for key, value in own.items() if value is not None}


@dataclass(frozen=True)
class Change:
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


def changes(root: Path, wanted: Wanted) -> list[Change]:
    """Return the changes that the values need, without writing. Raises LoopError if a value is invalid."""
    stated, found = repository.stated(root), []
    if wanted.named:
        then = asdict(repository.initialised(root, wanted.named))
        found = [
            Change(key, repository.masked(str(stated.get(key, ""))), then[key])
            for key in then
            if then[key] != stated.get(key)
        ]
    for what, value, going in (
        ("models", wanted.models, folders.unwanted),
        ("environments", wanted.environments, folders.leaving),
    ):
        if value is not None and (gone := going(root, value.split(","))):
            found.append(
                Change(what, now(root)[what], f"without {', '.join(gone)}; their folders are deleted")
            )
    if wanted.remote is not None and wanted.remote != (remote := default_remote(root, local=False)):
        if repository.masked(wanted.remote) != wanted.remote:
            raise LoopError(
                f"--remote is {repository.masked(wanted.remote)!r}, which contains a credential",
                fix="give the address alone; pass credentials as environment variables, as AWS_ACCESS_KEY_ID",
            )
        found.append(Change("remote", remote or "none", wanted.remote))
    return found


def apply(root: Path, wanted: Wanted) -> None:
    """Write the values into the fork's files. Values that are there already are skipped."""
    if wanted.named:
        repository.write(root, repository.initialised(root, wanted.named))
    if wanted.models is not None:
        folders.keep(root, wanted.models.split(","))
    if wanted.environments is not None:
        folders.keep_environments(root, wanted.environments.split(","))
    if wanted.remote is not None and wanted.remote != default_remote(root, local=False):
        dvc(root, "remote", "add", "--default", "--force", "--quiet", STORE, wanted.remote, quiet=True)
