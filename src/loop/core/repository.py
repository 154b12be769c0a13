"""The repository's own name, URL and registry: `argocd/repository.yaml` is their one home."""

import io
from pathlib import Path

from pydantic import Field
from ruamel.yaml import YAML

from loop.core.errors import LoopError
from loop.core.files import write_text
from loop.core.params import Section, parse

PATH = "argocd/repository.yaml"


class Repository(Section):
    """What a fork changes about itself; `loop init` writes it."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,38}$")
    url: str = Field(pattern=r"^(https?|ssh|git)://\S+$|^[\w.-]+@[\w.-]+:\S+$")
    registry: str = Field(pattern=r"^[a-z0-9][a-z0-9.:/_-]*$")  # images are <registry>/<model>@sha256:…


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
