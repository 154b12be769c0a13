"""A pull request for a branch that a machine has pushed."""

import os

from loop.core import actions
from loop.core.github import GitHub, GitHubError

FORBIDDEN = 403
WORDS = (
    "not permitted to create"  # GitHub: "GitHub Actions is not permitted to create or approve pull requests."
)


def opened(github: GitHub, branch: str, title: str, body: str) -> int | None:
    """The number of the branch's pull request; None where this repository lets no workflow open one.

    GitHub forbids it to workflows until a person allows it in the settings. In a fork where nobody has done
    so that is no failure: the branch is pushed, and the warning links to where a person opens it.
    """
    try:
        return int(github.pull_request(branch, title, body)["number"])
    except GitHubError as error:
        if error.status != FORBIDDEN or WORDS not in str(error):
            raise
    server = os.environ.get("GITHUB_SERVER_URL", "https://github.com")
    link = f"{server}/{github.repository}/compare/main...{branch}?expand=1"
    setting = "Settings → Actions → General → Allow GitHub Actions to create and approve pull requests"
    actions.warning("No pull request", f"workflows may open none here. Open it yourself: {link} ({setting})")
    return None
