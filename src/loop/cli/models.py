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
@click.option(
    "--trained", metavar="COMMIT", help="Only models whose training the dvc.lock of this commit records."
)
def models(model: str | None, logged: bool, trained: str | None) -> None:
    """List the models of params.yaml.

    Workflows start a job for each of them. With MODEL it lists this one, and fails if there is no such model.
    With --trained it also says which models it leaves out, and how to train them.
    Step outputs: models, and releases, which has one entry for each release of a model: its device and the
    environments that it goes to. A model has several if `serve.device` differs between environments.
    """
    from loop.core import params, plain
    from loop.core.dvc import LOCK, Lock, begin
    from loop.core.git import Git

    root = paths.root()
    names = [model] if model else sorted(params.read(root))
    projects = {public(name): Project(root, name) for name in names}
    # `params` is read first, so that an invalid section is an error for every model
    listed = [name for name, each in projects.items() if each.params.monitor.store or model or not logged]
    if trained:
        lock = Lock.parse(Git(root).read(trained, LOCK) or "", f"{LOCK} of {trained[:12]}")
        for name in [name for name in listed if not lock.records(name)]:
            listed.remove(name)
            said = (
                f"{name}: nothing to release, as dvc.lock records no training of it; to begin: {begin(name)}"
            )
            click.echo(said, err=True)
            actions.summary(said)
    click.echo("\n".join(listed))
    releases = [
        {"model": name, "device": device, "environments": " ".join(environments)}
        for name in listed
        for device, environments in plain.by_device(projects[name]).items()
    ]
    actions.output(models=json.dumps(listed), releases=json.dumps(releases))
