"""Making a fork a team's own: the values that `loop init` asks for, and what they would change."""

import re
from dataclasses import asdict, dataclass
from pathlib import Path

from loop.core import plain, repository
from loop.core.dvc import dvc
from loop.core.errors import LoopError
from loop.core.git import Git
from loop.core.names import public
from loop.fork import folders

STORE = "storage"  # the name of the DVC remote


@dataclass(frozen=True)
class Wanted:
    """The values that a person gave; None leaves one as it is. No file of a fork has `mlflow`."""

    name: str | None = None
    url: str | None = None
    registry: str | None = None
    models: str | None = None
    environments: str | None = None
    remote: str | None = None
    mlflow: str | None = None

    @property
    def named(self) -> dict[str, str]:
        """The values of argocd/repository.yaml among these."""
        own = {"name": self.name, "url": self.url, "registry": self.registry}
        return {key: value for key, value in own.items() if value is not None}


@dataclass(frozen=True)
class Change:
    """A row of the table that a person agrees to."""

    what: str
    now: str
    then: str


def now(root: Path) -> dict[str, str]:
    """Each value as it is."""
    known = plain.read(root)
    return {
        **{key: str(value) for key, value in repository.stated(root).items()},
        "models": ",".join(map(public, known)),
        "environments": ",".join(plain.environments(root)),
        "remote": _remote(root),
    }


def suggested(root: Path) -> dict[str, str]:
    """Each value as it is, but in place of the template's own name, URL and registry what origin says."""
    values, git = now(root), Git(root)
    url = git.run("remote", "get-url", "origin") if "origin" in git.run("remote").split() else ""
    found = repository.URL.fullmatch(repository.masked(url).replace("***@", ""))
    if found and repository.TEMPLATE in values.get("url", ""):
        owner, _, name = found["path"].lower().rpartition("/")
        values |= {"name": name.replace("_", "-").replace(".", "-"), "url": re.sub(r"//[^/@]*@", "//", url)}
        values |= {"registry": f"ghcr.io/{owner}"} if found["host"] == "github.com" else {}
    return values


def changes(root: Path, wanted: Wanted) -> list[Change]:
    """Return the changes that these values would make, and write nothing. LoopError where one is refused."""
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
                Change(what, now(root)[what], f"without {', '.join(gone)}: their folders are deleted")
            )
    if wanted.remote is not None and wanted.remote != (remote := _remote(root)):
        if repository.masked(wanted.remote) != wanted.remote:
            raise LoopError(
                f"--remote is {repository.masked(wanted.remote)!r}, which holds a credential",
                fix="give the address alone; AWS_ACCESS_KEY_ID and the like come from the environment",
            )
        found.append(Change("remote", remote or "none", wanted.remote))
    return found


def apply(root: Path, wanted: Wanted) -> None:
    """Make these changes. Those that are made already are left out, so it may run again."""
    if wanted.named:
        repository.write(root, repository.initialised(root, wanted.named))
    if wanted.models is not None:
        folders.keep(root, wanted.models.split(","))
    if wanted.environments is not None:
        folders.keep_environments(root, wanted.environments.split(","))
    if wanted.remote is not None and wanted.remote != _remote(root):
        dvc(root, "remote", "add", "--default", "--force", "--quiet", STORE, wanted.remote, quiet=True)


def _remote(root: Path) -> str:
    """The address of DVC's default remote in .dvc/config; empty where it has none."""
    path = root / ".dvc" / "config"
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    name = re.search(r"(?m)^\s*remote = (.+)$", text)
    section = re.search(rf"\['remote \"{re.escape(name[1])}\"'\]\n\s*url = (.+)", text) if name else None
    return section[1] if section else ""
