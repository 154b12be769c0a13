"""Writes the report on a candidate to the job's summary and to the pull request."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from loop.core import actions
from loop.core.errors import LoopError
from loop.core.files import read_json, write_text
from loop.core.github import FORBIDDEN, GitHub, GitHubError
from loop.core.names import public
from loop.core.paths import ModelPaths
from loop.review import base, cluster, locks
from loop.review.evidence import gather
from loop.review.report import report, without_model

REST = "The rest is too long for a comment: it is in the job's summary."


def comment(root: Path, model: str | None = None) -> str:
    """Write the report; returns it, with a note where the token may not comment.

    Without a model the report is about changes that belong to none: the cluster, the locks.
    """
    pull_request = _pull_request()
    branch = (pull_request or {}).get("base", {}).get("ref", "main")
    text = written(root, model, branch) if model else deployed(root, branch)
    if pull_request:
        text += _took()
        text += _post(pull_request["number"], f"loop-report {public(model or 'deployed')}", text)
    write_text((ModelPaths(root, model).build if model else root / "build") / "report.md", text)
    actions.summary(text)
    return text


def written(root: Path, model: str, branch: str) -> str:
    """The report as Markdown, against the commit where this one left `branch`."""
    paths = ModelPaths(root, model)
    if not paths.metrics.is_file():
        raise LoopError(f"{paths.metrics} does not exist", fix=f"./loop repro {paths.package}")
    with base.checkout(root, branch) as tree:
        return report(gather(root, model, tree))


def deployed(root: Path, branch: str) -> str:
    """The report on a change of no model, against the commit where it left `branch`."""
    with base.checkout(root, branch) as tree:
        if tree is None:
            raise LoopError(f"{root} has no remote `origin`", fix=f"add one: its {branch} is compared with")
        return without_model(cluster.differences(tree, root), locks.changes(tree, root, locks.every(root)))


def _pull_request() -> dict[str, Any] | None:
    """The pull request of the event that started this workflow; None for another event."""
    path = os.environ.get("GITHUB_EVENT_PATH")
    if not path or not Path(path).is_file():
        return None
    found = read_json(Path(path)).get("pull_request")
    return dict(found) if found else None


def _took() -> str:
    """How long a reviewer has waited since GitHub made the run; empty where that can't be known."""
    try:
        run = GitHub.of_environment().call("GET", f"/actions/runs/{os.environ['GITHUB_RUN_ID']}")
        begun = datetime.fromisoformat(run["created_at"])
    except (KeyError, LoopError):
        return ""
    seconds = (datetime.now(UTC) - begun).total_seconds()
    return f"\n<sub>This report was there {seconds:.0f} s after the push.</sub>\n"


def _post(number: int, mark: str, text: str) -> str:
    try:
        GitHub.of_environment().comment(number, mark, text, REST)
    except GitHubError as error:
        if error.status != FORBIDDEN or error.again:  # 403 may be a rate limit, too
            raise
        return "\nThis token may not comment on the pull request, as a fork's may not: the report is here.\n"
    return ""
