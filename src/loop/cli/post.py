"""`loop post-reports`: posts the reports of CI as comments on a pull request."""

import click


@click.command("post-reports")
def post_reports() -> None:
    """Post the reports of a CI run to its pull request.

    report.yml calls it when a run of ci.yml has ended. The pull request's own code may have written these
    reports, so they are cut to a length, and links and mentions in them are made plain text.
    """
    from loop.core import actions
    from loop.core.github import GitHub
    from loop.review.post import post, run_of_event

    said = post(GitHub.of_environment(), run_of_event())
    click.echo(said)
    actions.summary(said)
