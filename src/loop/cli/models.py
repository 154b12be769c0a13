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
    """List the models of params.yaml, or only MODEL, which must be one of them.

    Output `releases` has an entry for each release of a model: what it is built for, and which environments
    it goes to. It is one release unless `serve.device` differs between environments.
    """
    from loop.core import params, plain

    root = paths.root()
    names = [model] if model else sorted(params.read(root))
    sections = {public(name): params.load(root, name) for name in names}
    listed = [name for name, section in sections.items() if model or section.monitor.store or not logged]
    click.echo("\n".join(listed))
    releases = [
        {"model": name, "device": device, "environments": " ".join(environments)}
        for name in listed
        for device, environments in plain.by_device(root, name).items()
    ]
    actions.output(models=json.dumps(listed), releases=json.dumps(releases))
