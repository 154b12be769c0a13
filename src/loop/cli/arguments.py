"""The arguments and options that many commands share, and what a shell completes them with."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click

from loop.core import paths
from loop.core.errors import LoopError
from loop.core.names import public
from loop.core.project import Project

PATH = click.Path(path_type=Path)
F = TypeVar("F", bound=Callable[..., Any])


def models(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """The models of params.yaml whose names begin with what was typed."""
    from loop.core import plain

    return _begun(incomplete.replace("_", "-"), lambda root: sorted(map(public, plain.read(root))))


def environments(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """The environments of this repository whose names begin with what was typed."""
    from loop.core import plain

    return _begun(incomplete, plain.environments)


def _begun(typed: str, names: Callable[[Path], Iterable[str]]) -> list[str]:
    """The names that begin with what was typed; none outside of a clone, or where params.yaml is broken."""
    try:
        return [name for name in names(paths.root()) if name.startswith(typed)]
    except LoopError:
        return []


def known_model(name: str) -> str:
    """Return the name. Raises LoopError if params.yaml lacks this model."""
    from loop.core import plain

    try:
        known = plain.read(paths.root())
    except LoopError:  # a command that needs params.yaml says what is wrong, and `rollback` needs none
        return name
    plain.section(known, name)
    return name


def _project(model: str) -> Project:
    return Project(paths.root(), known_model(model))


def _environment(name: str) -> str:
    """Return the name. Raises LoopError if the repository lacks this environment."""
    from loop.core import plain

    if name not in (known := plain.environments(paths.root())):
        there = f"{plain.OVERLAYS} has no environment {name!r}"
        raise LoopError(there, fix=f"use one of {', '.join(known)}")
    return name


project_argument = click.argument("project", metavar="MODEL", type=_project, shell_complete=models)
optional_model = click.argument("model", required=False, type=known_model, shell_complete=models)
models_argument = click.argument(
    "models", metavar="[MODEL]...", nargs=-1, type=known_model, shell_complete=models
)


def environment_option(*names: str, **attributes: Any) -> Callable[[F], F]:
    """The option --environment. Without `required` or a default it may be left out."""
    attributes.setdefault("help", "A folder of kustomize/overlays, such as dev.")
    attributes |= {"type": _environment, "shell_complete": environments}
    return click.option("--environment", *names, metavar="ENVIRONMENT", **attributes)


reason_option = click.option(
    "--reason", required=True, metavar="TEXT", help="The reason, for the commit's message."
)
