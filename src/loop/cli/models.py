"""`loop models`: lists the models that a workflow starts its jobs for."""

import json

import click

from loop.cli.arguments import optional_model
from loop.core import actions, paths
from loop.core.names import public
from loop.core.project import Project


@click.command
@optional_model
@click.option(
    "--logged", is_flag=True, help="Only models whose production is logged: those with monitor.store."
)
def models(model: str | None, logged: bool) -> None:
    """List the models of params.yaml.

    Workflows start a job for each of them. With MODEL it lists this one, and fails if there is no such model.
    Step outputs: models, and releases, which has one entry for each release of a model: its device and the
    environments that it goes to. A model has several if `serve.device` differs between environments.
    """
    from loop.core import params, plain

    root = paths.root()
    names = [model] if model else sorted(params.read(root))
    sections = {public(name): Project(root, name).params for name in names}
    listed = [name for name, section in sections.items() if model or section.monitor.store or not logged]
    click.echo("\n".join(listed))
    releases = [
        {"model": name, "device": device, "environments": " ".join(environments)}
        for name in listed
        for device, environments in plain.by_device(Project(root, name)).items()
    ]
    actions.output(models=json.dumps(listed), releases=json.dumps(releases))
