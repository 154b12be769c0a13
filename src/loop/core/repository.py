"""The repository's own name, URL and registry: `argocd/repository.yaml` is their one home."""

import io
import re
from pathlib import Path

from pydantic import Field
from ruamel.yaml import YAML

from loop.core.errors import LoopError
from loop.core.files import write_text
from loop.core.params import Section, parse

PATH = "argocd/repository.yaml"
TEMPLATE = "your-team"  # who owns the template until `loop init` has run
URL = re.compile(
    r"(?:(?P<scheme>\w+)://)?(?:[^@/]+@)?(?P<host>[^/:@]+)(?::(?P<port>\d+)(?=/))?[/:](?P<path>.+?)(?:\.git)?/?"
)


class Repository(Section):
    """What a fork changes about itself; `loop init` writes it."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,38}$")
    url: str = Field(pattern=r"^(https?|ssh|git)://\S+$|^[\w.-]+@[\w.-]+:\S+$")
    registry: str = Field(pattern=r"^[a-z0-9][a-z0-9.:/_-]*$")  # images are <registry>/<model>@sha256:…

    @property
    def named(self) -> bool:
        """Whether the fork has taken a registry of its own: the template's is nobody's."""
        return TEMPLATE not in self.registry.split("/")

    @property
    def slug(self) -> str:
        """owner/name."""
        return self._parts["path"]

    @property
    def server(self) -> str:
        """Where it is served by HTTP, whichever way the URL names it: `https://github.com`."""
        parts = self._parts
        web = parts["scheme"] in {"http", "https"}
        port = f":{parts['port']}" if web and parts["port"] else ""
        return f"{parts['scheme'] if web else 'https'}://{parts['host']}{port}"

    @property
    def clone_url(self) -> str:
        """Where a token can clone it."""
        return f"{self.server}/{self.slug}.git"

    @property
    def api(self) -> str:
        """GitHub's REST API: github.com's own, or GitHub Enterprise's at the repository's server."""
        public = self.server == "https://github.com"
        return "https://api.github.com" if public else f"{self.server}/api/v3"

    @property
    def _parts(self) -> dict[str, str]:
        found = URL.fullmatch(self.url)
        if found is None:
            raise LoopError(
                f"{PATH}: data.url: is {self.url!r}; should be https://<server>/<owner>/<name>.git"
            )
        return found.groupdict(default="")


def read(root: Path) -> Repository:
    """The repository's name, URL and registry."""
    path = root / PATH
    if not path.is_file():
        raise LoopError(f"{path} does not exist", fix="./loop init --name NAME --url URL --registry REGISTRY")
    document = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    return parse(Repository, document.get("data"), f"{PATH}: data")


def write(root: Path, repository: Repository) -> bool:
    """Write the three values in place, comments kept; returns whether anything changed."""
    yaml, path = YAML(), root / PATH
    before = path.read_text(encoding="utf-8")
    document = yaml.load(before)
    document["data"].update(repository.model_dump())
    text = io.StringIO()
    yaml.dump(document, text)
    if text.getvalue() == before:
        return False
    write_text(path, text.getvalue())
    return True
