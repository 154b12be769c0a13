"""Finds the champion, the release that production's overlay names, and restores its model.

It is located through Git and fetched through DVC; no registry is involved.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loop.core import actions, edited
from loop.core.dvc import DvcError, Lock, bring, md5
from loop.core.errors import LoopError, Rejected
from loop.core.git import Git, GitError
from loop.core.names import public
from loop.core.paths import ModelPaths

# text fields that each release in release.yaml must have
TRACK = ("key", "image", "modelMd5", "dataMd5", "commit", "bento")
RESTORE = "restore the file from Git's history; only `loop release`, `promote` and `rollback` may change it"
# Environment variables that mark a workflow run. They are removed so that a nested command does not write
# this step's outputs.
WORKFLOW = ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY", "PYTHONPATH")


@dataclass(frozen=True)
class Champion:
    """Production's stable release, with what is needed to restore its model."""

    key: str
    model_md5: str
    data_md5: str
    commit: str  # the training commit, whose dvc.lock records model_md5


def state(root: Path, model: str, environment: str) -> dict[str, Any]:
    """Return `spec` of an environment's release.yaml on origin's main, {} if the file does not exist.

    A clone without an origin uses its work tree. If origin does not respond, that is an error, because an
    outdated clone could look as if there were no champion.
    """
    path = ModelPaths(root, model).release(environment)
    git = Git(root)
    if "origin" in git.run("remote").split():
        text = git.read(git.fetch(), path.relative_to(root).as_posix())
    else:
        text = path.read_text(encoding="utf-8") if path.is_file() else None
    return _sound(text, path.relative_to(root).as_posix()) if text is not None else {}


def _sound(text: str, where: str) -> dict[str, Any]:
    """Return `spec` of a release.yaml.

    Raises LoopError if its releases lack what is needed to find their models.
    """
    document = edited.yaml(text, where, RESTORE)
    spec = document.get("spec") if isinstance(document, dict) else None
    if not isinstance(spec, dict):
        raise LoopError(f"{where}: spec: is missing", fix=RESTORE)
    for name in ("stable", "canary"):
        if (track := spec.get(name)) is None:
            continue
        odd = [key for key in TRACK if not (isinstance(track, dict) and isinstance(track.get(key), str))]
        if odd:
            line = edited.line_of(text, "spec", name, odd[0])
            raise LoopError(f"{where}: line {line}: spec.{name}.{odd[0]}: should be text", fix=RESTORE)
    for each in spec.get("barred") or []:
        if not (isinstance(each, dict) and isinstance(each.get("key"), str)):
            line = edited.line_of(text, "spec", "barred")
            raise LoopError(f"{where}: line {line}: `spec.barred`: each should have a `key`", fix=RESTORE)
    return spec


def find(root: Path, model: str, environment: str = "production") -> Champion | None:
    """Return the environment's champion, or None if its overlay names no stable release.

    A canary is not a champion yet.
    """
    stable = state(root, model, environment).get("stable")
    if not stable:
        return None
    return Champion(*(str(stable[name]) for name in ("key", "modelMd5", "dataMd5", "commit")))


@contextmanager
def checkout(root: Path, model: str, champion: Champion) -> Iterator[Path]:
    """Yield a temporary work tree at the champion's training commit, with its model restored.

    The model comes from DVC's cache or remote; otherwise `./loop repro` trains it again with that commit's
    code and environment. Its md5 is checked. Raises Rejected, naming each attempt, if none gives the recorded
    md5.
    """
    git = Git(root)
    _need_commit(git, champion)
    with git.worktree(champion.commit) as tree:
        _need_record(tree, model, champion)
        _share_settings(root, tree)
        _obtain(tree, model, champion)
        yield tree


def _need_commit(git: Git, champion: Champion) -> None:
    """Fetch the training commit if a shallow clone lacks it. Raises Rejected if origin does not have it."""
    try:
        git.run("cat-file", "-e", f"{champion.commit}^{{commit}}")
    except GitError:
        try:
            git.run("fetch", "--quiet", "--depth=1", "origin", champion.commit)
        except GitError as error:
            raise Rejected(
                f"the champion {champion.key} cannot be restored: its training commit {champion.commit} is "
                f"neither in this clone nor at origin ({error})",
                fix="push that commit, or roll production back to a release whose commit exists",
            ) from error


def _need_record(tree: Path, model: str, champion: Champion) -> None:
    try:
        recorded = Lock.of(tree).model_md5(model)
    except LoopError as error:
        recorded = str(error)
    if recorded != champion.model_md5:
        raise Rejected(
            f"the champion {champion.key} cannot be restored: production names model {champion.model_md5} "
            f"of commit {champion.commit}, but its dvc.lock says {recorded}",
            fix="roll production back to a release whose commit records its model",
        )


def _share_settings(root: Path, tree: Path) -> None:
    """Copy this clone's .dvc/config.local, so that the work tree uses the same DVC cache and remotes."""
    local = root / ".dvc" / "config.local"
    if local.is_file():
        shutil.copy2(local, tree / ".dvc" / "config.local")


def _obtain(tree: Path, model: str, champion: Champion) -> None:
    trained = ModelPaths(tree, model).trained
    tried = []
    for attempt in ("checkout", "pull", "repro"):
        try:
            if attempt == "repro":
                own_loop(tree, "repro", public(model))
            else:
                bring(tree, model, trained.name, remote=attempt == "pull")
        except (DvcError, Rejected) as error:
            tried.append(f"{attempt}: {_last_line(error)}")
            if attempt != "repro" and isinstance(error, Rejected):
                # altered bytes are reported even if the model is then rebuilt
                actions.warning("Changed outputs", str(error))
            continue
        if (found := md5(trained)) == champion.model_md5:
            return
        tried.append(f"{attempt}: returned model {found}")
    raise Rejected(
        f"the champion {champion.key} cannot be restored: model {champion.model_md5} of {champion.commit}\n  "
        + "\n  ".join(tried),
        fix="run `dvc push` in a clone that has its outputs, or roll production back to another release",
        docs="docs/runbooks/production.md#the-gate-says-that-the-champion-cannot-be-restored",
    )


def own_loop(tree: Path, *args: str, **env: str) -> None:
    """Run `./loop` of another commit in its own environment, with the variables `env`.

    Raises Rejected if it fails.
    """
    outer = {name: value for name, value in os.environ.items() if name not in WORKFLOW}
    done = subprocess.run(
        [str(tree / "loop"), *args],
        cwd=tree,
        env={**outer, **env},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise Rejected(
            f"`./loop {' '.join(args)}` at the champion's commit failed ({done.returncode}):\n{said}"
        )


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if len(lines) == 1 else f"{lines[0]} … {lines[-1]}"
