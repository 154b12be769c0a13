"""`loop models`: what a workflow runs its jobs over."""

import json

import click

from loop.core import actions, params, paths
from loop.core.names import public


@click.command
@click.argument("model", required=False)
def models(model: str | None) -> None:
    """List the models of params.yaml, or check that MODEL is one of them."""
    root = paths.root()
    names = sorted(params.read(root))
    if model:
        params.load(root, model)
        names = [model]
    listed = [public(name) for name in names]
    click.echo("\n".join(listed))
    actions.output(models=json.dumps(listed))
