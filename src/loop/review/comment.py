"""Writes the report on a pull request to a file and to the job summary; `loop.review.post` posts it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loop.core import actions
from loop.core.dvc import check
from loop.core.errors import LoopError
from loop.core.files import write_text
from loop.core.git import Git
from loop.core.project import Project
from loop.review import cluster
from loop.review.evidence import gather
from loop.review.report import report, without_model


def comment(root: Path, model: str | None = None) -> tuple[Path, str]:
    """Write the report; returns its path and its text.

    Without a model, the report covers the changes that belong to no model: cluster manifests and locks. It
    compares with the base branch of the pull request that started this workflow, or with main.
    """
    branch = str((actions.event().get("pull_request") or {}).get("base", {}).get("ref", "main"))
    text = written(Project(root, model), branch) if model else deployed(root, branch)
    path = (Project(root, model).build if model else root / "build") / "report.md"
    write_text(path, text)
    actions.summary(text)
    return path, text


def written(project: Project, branch: str) -> str:
    """Return the report on a model as Markdown, compared with the commit where HEAD left `branch`.

    Raises LoopError if the model has not been trained, or an output is not what dvc.lock records.
    """
    if not project.metrics.is_file():
        raise LoopError(f"{project.metrics} does not exist", fix=f"./loop repro {project.package}")
    check(project)
    with checkout(project.root, branch) as tree:
        return report(gather(project, Project(tree, project.model)))


def deployed(root: Path, branch: str) -> str:
    """Return the report on changes of no model, compared with the commit where HEAD left `branch`."""
    with checkout(root, branch) as tree:
        tracked = Git(root).run("ls-files", "--", "*.lock").splitlines()
        every = [path for path in tracked if path != "dvc.lock"]
        return without_model(cluster.differences(tree, root), cluster.packages(tree, root, every))


@contextmanager
def checkout(root: Path, branch: str) -> Iterator[Path]:
    """Yield a temporary checkout of the commit where HEAD left origin's `branch`."""
    git = Git(root)
    tip = git.fetch(branch)
    with git.worktree(git.fork_point(tip, "HEAD") or tip) as tree:  # no common commit after a forced push
        yield tree
