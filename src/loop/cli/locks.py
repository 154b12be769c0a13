"""`loop propose-locks`: new locks as a pull request."""

import click


@click.command("propose-locks")
@click.option("--reason", required=True, help="Why, for the commit's message.")
def propose_locks(reason: str) -> None:
    """Propose what `make lock` has changed, as one pull request that is kept up to date."""
    from loop.core import actions, paths
    from loop.core.github import GitHub
    from loop.delivery.relock import propose

    number = propose(paths.root(), GitHub.of_environment(), reason)
    told = f"the locks move: pull request #{number}" if number else "no lock has moved"
    click.echo(told)
    actions.summary(told)
