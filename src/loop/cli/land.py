"""`loop land`: a retraining's commit to main."""

import click

from loop.core import actions, paths
from loop.core.names import public


@click.command
@click.argument("model")
@click.option("--reason", required=True, help="Why it was retrained, for the commit's message.")
def land(model: str, reason: str) -> None:
    """Commit what a retraining of MODEL wrote (params.yaml, dvc.lock, metrics, logged.json) onto main."""
    from loop.delivery.land import land as land_on_main

    commit = land_on_main(paths.root(), model, reason)
    told = f"{public(model)} is main's {commit[:12]}" if commit else f"main has this {public(model)} already"
    click.echo(told)
    actions.summary(told)
