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
Given = TypeVar("Given", str, tuple[str, ...], None)


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


def _project(ctx: click.Context, param: click.Parameter, model: str) -> Project:
    return Project(paths.root(), _models(ctx, param, model))


def _models(_ctx: click.Context, _param: click.Parameter, given: Given) -> Given:
    check_models(given)
    return given


def check_models(given: str | tuple[str, ...] | None) -> None:
    """Raise LoopError for a model that params.yaml lacks; `given` is a name, several or none."""
    from loop.core import plain

    try:
        known = plain.read(paths.root())
    except LoopError:  # a command that needs params.yaml says what is wrong, and `rollback` needs none
        return
    for model in _each(given):
        plain.section(known, model)


def _environments(_ctx: click.Context, _param: click.Parameter, given: Given) -> Given:
    """Raise LoopError for an environment that this repository lacks, before the command does anything."""
    from loop.core import plain

    for name in _each(given):
        if name not in (known := plain.environments(paths.root())):
            there = f"{plain.OVERLAYS} has no environment {name!r}"
            raise LoopError(there, fix=f"use one of {', '.join(known)}")
    return given


def _each(given: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else given or ()


project_argument = click.argument("project", metavar="MODEL", callback=_project, shell_complete=models)
optional_model = click.argument("model", required=False, callback=_models, shell_complete=models)
models_argument = click.argument(
    "models", metavar="[MODEL]...", nargs=-1, callback=_models, shell_complete=models
)


def environment_option(*names: str, **attributes: Any) -> Callable[[F], F]:
    """The option --environment. Without `required` or a default it may be left out."""
    attributes.setdefault("help", "A folder of kustomize/overlays, such as dev.")
    attributes |= {"callback": _environments, "shell_complete": environments}
    return click.option("--environment", *names, metavar="ENVIRONMENT", **attributes)


reason_option = click.option(
    "--reason", required=True, metavar="TEXT", help="The reason, for the commit's message."
)
