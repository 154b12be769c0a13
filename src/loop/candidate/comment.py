"""Puts the report on a candidate where its reviewers look: the job's summary and the pull request."""

import json
import os
from pathlib import Path
from typing import Any

from loop.candidate.report import report
from loop.core import actions
from loop.core.errors import LoopError
from loop.core.files import read_json
from loop.core.git import Git
from loop.core.github import GitHub, GitHubError
from loop.core.names import package, public
from loop.core.paths import ModelPaths

FORBIDDEN = 403  # what a fork's read-only token gets


def comment(root: Path, model: str) -> str:
    """Write the report; returns it, with a note where the pull request could not be told."""
    pull_request = _pull_request()
    text = written(root, model, (pull_request or {}).get("base", {}).get("ref", "main"))
    if pull_request:
        text += _post(pull_request["number"], f"loop-report {public(model)}", text)
    actions.summary(text)
    return text


def written(root: Path, model: str, branch: str) -> str:
    """The report as Markdown, against metrics.json of `branch`."""
    paths = ModelPaths(root, model)
    if not paths.metrics.is_file():
        raise LoopError(f"{paths.metrics} does not exist", fix=f"./loop repro {package(model)}")
    quality, gate = paths.validation / "quality.json", paths.build / "gate.json"
    return report(
        public(model),
        read_json(paths.metrics),
        _base(root, paths, branch),
        read_json(quality) if quality.is_file() else {},
        read_json(gate) if gate.is_file() else None,
    )


def _base(root: Path, paths: ModelPaths, branch: str) -> dict[str, Any]:
    """metrics.json as origin's branch has it, {} where it has none."""
    git = Git(root)
    if "origin" not in git.run("remote").split():
        return {}
    text = git.read(git.fetch(branch), paths.metrics.relative_to(root).as_posix())
    return dict(json.loads(text)) if text else {}


def _pull_request() -> dict[str, Any] | None:
    """The pull request of the event that runs this workflow, if it is one."""
    path = os.environ.get("GITHUB_EVENT_PATH")
    if not path or not Path(path).is_file():
        return None
    found = read_json(Path(path)).get("pull_request")
    return dict(found) if found else None


def _post(number: int, mark: str, text: str) -> str:
    try:
        GitHub.of_environment().comment(number, mark, text)
    except GitHubError as error:
        if error.status != FORBIDDEN:
            raise
        return "\nThis token may not comment on the pull request, as a fork's may not: the report is here.\n"
    return ""
