"""`loop propose-locks`: new locks as a pull request."""

import click


@click.command("propose-locks")
@click.option("--reason", required=True, help="Why, for the commit's message.")
def propose_locks(reason: str) -> None:
    """Propose what `make lock` has changed, as one pull request that is kept up to date."""
    from loop.core import actions, paths
    from loop.core.github import GitHub
    from loop.delivery.relock import propose

    where = propose(paths.root(), GitHub.of_environment(), reason)
    said = f"the locks move: {where}" if where else "no lock has moved"
    click.echo(said)
    actions.summary(said)
