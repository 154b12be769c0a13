"""`loop models`: what a workflow runs its jobs over."""

import json

import click

from loop.core import actions, paths
from loop.core.names import public


@click.command
@click.argument("model", required=False)
@click.option(
    "--logged", is_flag=True, help="Without MODEL, only those whose production is logged (monitor.store)."
)
def models(model: str | None, logged: bool) -> None:
    """List the models of params.yaml; MODEL is listed alone, and is an error where it is none of them."""
    from loop.core import params

    root = paths.root()
    names = [model] if model else sorted(params.read(root))
    sections = {public(name): params.load(root, name) for name in names}
    listed = [name for name, section in sections.items() if model or section.monitor.store or not logged]
    click.echo("\n".join(listed))
    actions.output(models=json.dumps(listed))
