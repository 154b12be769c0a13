"""`loop land`: commits a retraining to main."""

import click

from loop.cli.arguments import model_argument
from loop.core import actions, paths
from loop.core.names import public


@click.command
@model_argument
@click.option(
    "--reason", required=True, metavar="TEXT", help="Why it was retrained, for the commit's message."
)
def land(model: str, reason: str) -> None:
    """Commit what a retraining wrote, and push it to main.

    train.yml calls it after `retrain` and `repro`. The commit has params.yaml, dvc.lock, the metrics and
    logged.json of this model, and is made on top of what main is now.
    """
    from loop.delivery.land import land as land_on_main

    commit = land_on_main(paths.root(), model, reason)
    told = (
        f"{public(model)}: commit {commit[:12]} on main"
        if commit
        else f"{public(model)}: main has it already"
    )
    click.echo(told)
    actions.summary(told)
