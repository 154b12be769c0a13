"""`loop land`: commits a retraining to main."""

import click

from loop.cli.arguments import model_argument
from loop.core import actions, paths
from loop.core.names import public
from loop.core.project import Project


@click.command
@model_argument
@click.option(
    "--reason", required=True, metavar="TEXT", help="Why it was retrained, for the commit's message."
)
def land(model: str, reason: str) -> None:
    """Commit what a retraining wrote, and push it to main.

    train-model.yml calls it in a job of its own, if the gate promotes the retrained model. The commit has
    this model's part of params.yaml and dvc.lock, its metrics, and logged.json if it reads a store. It is
    made on top of the current main.
    """
    from loop.delivery import land

    commit = land.land(Project(paths.root(), model), reason)
    told = (
        f"{public(model)}: commit {commit[:12]} on main"
        if commit
        else f"{public(model)}: main has it already"
    )
    click.echo(told)
    actions.summary(told)
