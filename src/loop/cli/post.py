"""`loop post-reports`: what CI reported on a pull request, as comments there."""

import click


@click.command("post-reports")
def post_reports() -> None:
    """Post the reports of the run that has just ended to its pull request; report.yml calls this.

    A pull request's own code may have written that text, so it is cut, and no link or mention in it works.
    """
    from loop.core import actions
    from loop.core.github import GitHub
    from loop.review.post import post, run_of_event

    said = post(GitHub.of_environment(), run_of_event())
    click.echo(said)
    actions.summary(said)
