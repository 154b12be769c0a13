"""Writes the report on a candidate to the job's summary and into a file: `loop.review.post` posts it."""

import os
from pathlib import Path

from loop.core import actions
from loop.core.dvc import check
from loop.core.errors import LoopError
from loop.core.files import read_json, write_text
from loop.core.paths import ModelPaths
from loop.review import base, cluster, locks
from loop.review.evidence import gather
from loop.review.report import report, without_model


def comment(root: Path, model: str | None = None) -> tuple[Path, str]:
    """Write the report; returns its file and its text.

    Without a model the report is about changes that belong to none: the cluster, the locks.
    """
    branch = _base()
    text = written(root, model, branch) if model else deployed(root, branch)
    path = (ModelPaths(root, model).build if model else root / "build") / "report.md"
    write_text(path, text)
    actions.summary(text)
    return path, text


def written(root: Path, model: str, branch: str) -> str:
    """The report as Markdown, against the commit where this one left `branch`."""
    paths = ModelPaths(root, model)
    if not paths.metrics.is_file():
        raise LoopError(f"{paths.metrics} does not exist", fix=f"./loop repro {paths.package}")
    check(root, model)
    with base.checkout(root, branch) as tree:
        return report(gather(root, model, tree))


def deployed(root: Path, branch: str) -> str:
    """The report on a change of no model, against the commit where it left `branch`."""
    with base.checkout(root, branch) as tree:
        if tree is None:
            raise LoopError(f"{root} has no remote `origin`", fix=f"add one: its {branch} is compared with")
        return without_model(cluster.differences(tree, root), locks.changes(tree, root, locks.every(root)))


def _base() -> str:
    """The base of the pull request that started this workflow; main for another event."""
    path = Path(os.environ.get("GITHUB_EVENT_PATH", ""))
    event = read_json(path) if path.is_file() else {}
    return str((event.get("pull_request") or {}).get("base", {}).get("ref", "main"))
