"""`loop propose-locks`: proposes new locks in a pull request."""

import click


@click.command("propose-locks")
@click.option("--reason", required=True, metavar="TEXT", help="The reason, for the commit's message.")
def propose_locks(reason: str) -> None:
    """Open or update the pull request of the locks.

    refresh-lock.yml calls it after `make lock`. There is at most one such pull request.
    """
    from loop.core import actions, paths
    from loop.core.github import GitHub
    from loop.delivery.relock import propose

    where = propose(paths.root(), GitHub.of_environment(), reason)
    said = f"the locks change: {where}" if where else "no lock has changed"
    click.echo(said)
    actions.summary(said)
