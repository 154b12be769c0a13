"""The arguments and options that many commands share, and what a shell completes them with."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def models(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """The models of params.yaml whose names begin with what was typed; none where it cannot be read."""
    from loop.core import paths, plain
    from loop.core.errors import LoopError
    from loop.core.names import public

    try:
        names = [public(name) for name in plain.read(paths.root())]
    except LoopError:
        return []
    return sorted(name for name in names if name.startswith(incomplete.replace("_", "-")))


def environments(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """The environments of this repository whose names begin with what was typed; none outside of a clone."""
    from loop.core import paths, plain
    from loop.core.errors import LoopError

    try:
        return [name for name in plain.environments(paths.root()) if name.startswith(incomplete)]
    except LoopError:
        return []


model_argument = click.argument("model", shell_complete=models)
optional_model = click.argument("model", required=False, shell_complete=models)
models_argument = click.argument("models", metavar="[MODEL]...", nargs=-1, shell_complete=models)


def environment_option(*names: str, **attributes: Any) -> Callable[[F], F]:
    """The option --environment. Without `required` or a default it may be left out."""
    attributes.setdefault("help", "A folder of kustomize/overlays, such as dev.")
    return click.option(
        "--environment", *names, metavar="ENVIRONMENT", shell_complete=environments, **attributes
    )


clone_option = click.option(
    "--clone/--no-clone",
    default=None,
    help="Read Git from a temporary clone.  [default: only where there is no work tree]",
)
