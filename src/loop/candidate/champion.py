"""Finds the champion, the release that production's overlay names, and restores its model.

It is located through Git and fetched through DVC; no registry is involved.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loop.core import actions, release_state
from loop.core.dvc import DvcError, bring, md5
from loop.core.errors import LoopError, Rejected
from loop.core.git import Git
from loop.core.project import Project
from loop.core.release_state import State, Track

# Environment variables that mark a workflow run. They are removed so that a nested command does not write
# this step's outputs.
WORKFLOW = ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY", "PYTHONPATH")


def state(project: Project, environment: str) -> State:
    """Return an environment's release state on origin's main; without a release if it has no overlay there.

    A clone without an origin uses its work tree. If origin does not respond, that is an error, because an
    outdated clone could look as if there were no champion.
    """
    git = Git(project.root)
    if "origin" in git.run("remote").split():
        return release_state.at(git, git.fetch(), environment, project.model) or State()
    there = (project.root / release_state.file(environment, project.model)).is_file()
    return release_state.read(project.root, environment, project.model) if there else State()


def find(project: Project) -> Track | None:
    """Return the champion, or None if production has no stable release. A canary is not a champion."""
    return state(project, "production").stable


@contextmanager
def checkout(project: Project, champion: Track) -> Iterator[Project]:
    """Yield a temporary work tree of the champion's training commit, with its model restored.

    The model comes from DVC's cache or remote; otherwise `./loop repro` trains it again with that commit's
    code and environment. Its md5 is checked. Raises Rejected, naming each attempt, if none gives the recorded
    md5.
    """
    git = Git(project.root)
    if not git.commit(champion.commit):
        raise Rejected(
            f"the champion {champion.key} cannot be restored: its training commit {champion.commit} is "
            "neither in this clone nor in the history of origin's main",
            fix="push that commit, or roll production back to a release whose commit exists",
        )
    with git.worktree(champion.commit) as tree:
        theirs = Project(tree, project.model)
        try:
            recorded = theirs.model_md5
        except LoopError as error:
            recorded = str(error)
        if recorded != champion.model_md5:
            raise Rejected(
                f"the champion {champion.key} cannot be restored: production names model "
                f"{champion.model_md5} of commit {champion.commit}, but its dvc.lock says {recorded}",
                fix="roll production back to a release whose commit records its model",
            )
        _obtain(theirs, champion)
        yield theirs


def _obtain(theirs: Project, champion: Track) -> None:
    tried = []
    for attempt in ("checkout", "pull", "repro"):
        try:
            if attempt == "repro":
                own_loop(theirs.root, "repro", theirs.public)
            else:
                bring(theirs, theirs.trained.name, remote=attempt == "pull")
        except (DvcError, Rejected) as error:
            tried.append(f"{attempt}: {_last_line(error)}")
            if attempt != "repro" and isinstance(error, Rejected):
                # altered bytes are reported even if the model is then rebuilt
                actions.warning("Changed outputs", str(error))
            continue
        if (found := md5(theirs.trained)) == champion.model_md5:
            return
        tried.append(f"{attempt}: returned model {found}")
    raise Rejected(
        f"the champion {champion.key} cannot be restored: model {champion.model_md5} of {champion.commit}\n  "
        + "\n  ".join(tried),
        fix="run `dvc push` in a clone that has its outputs, or roll production back to another release",
        docs="docs/runbooks/production.md#the-gate-says-that-the-champion-cannot-be-restored",
    )


def own_loop(tree: Path, *args: str) -> None:
    """Run `./loop` of another commit in its own environment. Raises Rejected if it fails."""
    outer = {name: value for name, value in os.environ.items() if name not in WORKFLOW}
    command = [str(tree / "loop"), *args]
    done = subprocess.run(command, cwd=tree, env=outer, capture_output=True, errors="replace", check=False)
    if done.returncode:
        ended = f"`./loop {' '.join(args)}` at the champion's commit failed ({done.returncode})"
        raise Rejected(f"{ended}:\n{(done.stderr or done.stdout).strip()}")


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if len(lines) == 1 else f"{lines[0]} … {lines[-1]}"
