"""Opens the pull request for a branch that the bot has pushed, and starts its CI."""

import os

import click

from loop.core import actions
from loop.core.github import GitHub, GitHubError

FORBIDDEN = 403
# A part of GitHub's error "GitHub Actions is not permitted to create or approve pull requests."
WORDS = "not permitted to create"


def opened(github: GitHub, branch: str, title: str, body: str) -> int | None:
    """Open a pull request and return its number; None if GitHub does not let workflows open one.

    GitHub forbids it until a person allows it in the repository's settings. That is not an error: the branch
    is pushed, and a warning shows the link where a person can open the pull request.
    """
    try:
        return int(github.pull_request(branch, title, body)["number"])
    except GitHubError as error:
        if error.status != FORBIDDEN or WORDS not in str(error):
            raise
    server = os.environ.get("GITHUB_SERVER_URL", "https://github.com")
    link = f"{server}/{github.repository}/compare/main...{branch}?expand=1"
    setting = "Settings → Actions → General → Allow GitHub Actions to create and approve pull requests"
    actions.warning("No pull request", f"workflows may not open one. Open it yourself: {link} ({setting})")
    return None


def tested(github: GitHub, branch: str) -> None:
    """Start ci.yml on a branch, because GitHub starts no workflow for a push with a workflow's token."""
    run = github.dispatch("ci.yml", {}, ref=branch)
    click.echo(f"{branch}: dispatched ci.yml{f': {run.url}' if run else ''}", err=True)
