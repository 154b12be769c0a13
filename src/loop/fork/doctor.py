"""The questions of `loop doctor`: one function each, whose answer says how to repair what is wrong."""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from loop.candidate.tracking import Tracking, TrackingError
from loop.core import edited, models, params, paths, plain, programs, repository
from loop.core.dvc import dvc, sweep
from loop.core.errors import LoopError
from loop.core.git import Git, GitError
from loop.core.github import MISSING, GitHub, GitHubError
from loop.core.names import package, public
from loop.core.repository import masked
from loop.core.text import one_line
from loop.delivery import state
from loop.packaging.engine import engine

KUSTOMIZATION = "kustomization.yaml"
FOLLOWED = "main"  # the branch that every workflow and Argo CD follow
ENVIRONMENT = "main-only"  # the GitHub environment of every job that uses a secret of WRITERS
WRITERS = frozenset({"PUSH_KEY", "REGISTRY_TOKEN", "STORES"})  # secrets that let their holder write
REVIEW = {  # what the rule `pull_request` of main has to say, in GitHub's words and in the page's
    "dismiss_stale_reviews_on_push": "dismiss stale approvals when new commits are pushed",
    "require_last_push_approval": "require approval of the most recent push",
    "require_code_owner_review": "require review from code owners",
}
PROTECTION = "see docs/protection.md"


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's table; `default` is fine here and has something bigger to move to."""

    state: Literal["ok", "default", "bad"]
    what: str
    found: str
    fix: str = ""


def examine(root: Path, *, cache: bool = False) -> list[Finding]:
    """Ask every question of this machine and this clone; with `cache`, hash all of DVC's cache too."""
    questions = (
        _programs,
        _engine,
        _name,
        _top,
        _origin,
        _branch,
        _remote,
        _outputs,
        _tracking,
        _secrets,
        _review,
    )
    found = [_asked(root, question.__name__.strip("_"), question) for question in questions]
    return [*found, *models_of(root), *(_cache(root) if cache else ())]


def _asked(root: Path, what: str, question: Callable[[Path], Finding]) -> Finding:
    """An answer; whatever a question raises, the other answers are still wanted."""
    try:
        return question(root)
    except LoopError as error:
        return Finding("bad", what, str(error.args[0]), error.fix)
    except Exception as error:  # noqa: BLE001
        told = models.failure(root, error) or LoopError(f"{type(error).__name__}: {one_line(error)}")
        return Finding("bad", what, str(told.args[0]), told.fix)


def _outputs(root: Path) -> Finding:
    """Whether Git keeps out what DVC keeps."""
    if error := paths.tracked(Git(root).run("ls-files", "-z", "--", "data").split("\0")):
        return Finding("bad", "outputs", str(error.args[0]), error.fix)
    return Finding("ok", "outputs", "none is in Git")


def _cache(root: Path) -> Iterator[Finding]:
    """The objects of DVC's cache whose bytes are not what their names say; each is set aside."""
    what = "DVC cache"
    try:
        bad = sweep(root)
    except LoopError as error:
        yield Finding("bad", what, str(error.args[0]), error.fix)
        return
    for each in bad:
        name = package(each.path.split("/")[1]) if each.path else ""
        fix = f"./loop repro {public(name)} fetches it or makes it again" if name else "nothing here needs it"
        yield Finding("bad", what, str(each), fix)
    if not bad:
        yield Finding("ok", what, "every object is what its name says")


def _programs(_root: Path) -> Finding:
    try:
        programs.folder()
    except LoopError as error:
        return Finding("bad", "Go programs", error.args[0], error.fix)
    return Finding("ok", "Go programs", "act, kustomize, kubeconform, actionlint, crane are built")


def _engine(_root: Path) -> Finding:
    if found := engine():
        return Finding("ok", "container engine", f"{found} runs")
    advice = "start docker, podman or buildah for container images"
    return Finding("default", "container engine", "none: bentos become OCI artifacts on disk", advice)


def _name(root: Path) -> Finding:
    here = repository.read(root)
    if repository.TEMPLATE in here.url:
        return Finding(
            "default", "repository", f"{here.name}, {here.url}", "./loop init --name --url --registry"
        )
    return Finding("ok", "repository", f"{here.name}, {here.url}, images at {here.registry}")


def _top(root: Path) -> Finding:
    """Whether the clone is a repository of its own: paths in workflows and releases begin at its top."""
    if folder := Git(root).run("rev-parse", "--show-prefix"):
        found = f"the folder {folder} of a larger repository: no workflow runs there"
        split = f"git subtree split --prefix={folder.rstrip('/')} -b {FOLLOWED}-alone"
        return Finding("bad", "top of the repository", found, f"give it a repository of its own: {split}")
    return Finding("ok", "top of the repository", "here")


def _origin(root: Path) -> Finding:
    remotes = Git(root).run("remote", "-v").split()
    if not remotes:
        return Finding(
            "default", "git remote", "none", "git remote add origin URL; releases are pushed there"
        )
    url, here = Git(root).run("remote", "get-url", "origin"), repository.read(root)
    shown, other = repository.masked(url), repository.URL.fullmatch(url)
    if here.named and other and other["path"] != here.slug:
        found = f"{shown}, but {repository.PATH} names {here.url}, which Argo CD follows"
        return Finding("bad", "git remote", found, "./loop init --url URL, or git remote set-url origin URL")
    return Finding("ok", "git remote", shown)


def _branch(root: Path) -> Finding:
    """Whether the remote's default branch is the one that workflows and Argo CD follow."""
    what = "default branch"
    try:
        said = Git(root, seconds=10).run("ls-remote", "--symref", "origin", "HEAD")
    except GitError:
        return Finding("default", what, "unknown: origin did not answer", "git ls-remote origin says why")
    named = re.match(r"ref: refs/heads/(\S+)\s", said)
    if named is None:
        return Finding(
            "default", what, "origin names none, as it is empty", f"git push origin HEAD:{FOLLOWED}"
        )
    if named[1] == FOLLOWED:
        return Finding("ok", what, FOLLOWED)
    rename = (
        "rename it on GitHub: Settings → General → Default branch, or gh api -X POST "
        f"'repos/{{owner}}/{{repo}}/branches/{named[1]}/rename' -f new_name={FOLLOWED}; then here: git fetch "
        f"origin && git branch -m {named[1]} {FOLLOWED} && git branch -u origin/{FOLLOWED} {FOLLOWED}"
    )
    return Finding(
        "bad", what, f"{named[1]}; workflows and Argo CD follow {FOLLOWED}, so nothing runs", rename
    )


def _remote(root: Path) -> Finding:
    found = dvc(root, "remote", "list", quiet=True).strip()
    if not found:
        advice = "dvc remote add --default storage s3://bucket/prefix; until then no `dvc gc`"
        return Finding(
            "default",
            "DVC remote",
            "none: one cache for all clones on this machine, and no other copy",
            advice,
        )
    if not dvc(root, "config", "core.remote", quiet=True).strip():
        name = found.split()[0]
        return Finding("bad", "DVC remote", f"{found}, but none is the default", f"dvc remote default {name}")
    return Finding("ok", "DVC remote", found)


def _tracking(root: Path) -> Finding:
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        advice = "export MLFLOW_TRACKING_URI=https://…"
        return Finding("default", "MLflow", "SQLite in this clone (mlflow.db)", advice)
    try:
        uri = Tracking.connect(root, attempts=1).uri
    except TrackingError as error:
        return Finding("bad", "MLflow", str(error.args[0]), error.fix)
    return Finding("ok", "MLflow", f"{masked(uri)} answers")


def _secrets(root: Path) -> Finding:
    """Whether only jobs on main get the secrets that write. Whoever pushes a branch can read all others."""
    what = "secrets of who writes"
    try:
        github = _github(root)
        loose = _named(github, "/actions/secrets") | _named(github, "/actions/organization-secrets", MISSING)
        places = {each["name"]: each for each in github.every("/environments", "environments")}
        held = {name: WRITERS & _named(github, f"/environments/{name}/secrets") for name in places}
        wide = {name: _branches(github, places[name]) for name in places if held[name]}
    except LoopError as error:
        return _unknown(what, error)
    if loose := loose & WRITERS:
        found = f"{', '.join(sorted(loose))} can be read by a workflow on any branch"
        return Finding("bad", what, found, f"move them into the environment {ENVIRONMENT}: {PROTECTION}")
    for name, branches in wide.items():
        if branches != [FOLLOWED]:
            found = f"the environment {name}, which has {', '.join(sorted(held[name]))}, is open to "
            found += ", ".join(branches) or "any branch"
            return Finding("bad", what, found, f"limit it to {FOLLOWED}: {PROTECTION}")
    if wide:
        return Finding("ok", what, f"in {', '.join(wide)}, for {FOLLOWED} alone")
    return Finding("default", what, "none", f"make the environment {ENVIRONMENT} for the first: {PROTECTION}")


def _branches(github: GitHub, environment: dict[str, Any]) -> list[str]:
    """The branches and tags that may use an environment; an empty answer means all."""
    if (policy := environment["deployment_branch_policy"]) is None:
        return []
    if policy["protected_branches"]:
        return ["every protected branch"]
    path = f"/environments/{environment['name']}/deployment-branch-policies"
    listed = github.every(path, "branch_policies")
    return [each["name"] if each.get("type") != "tag" else f"the tag {each['name']}" for each in listed]


def _review(root: Path) -> Finding:
    """Whether only approved commits can be merged."""
    what = f"review of {FOLLOWED}"
    try:
        rules = list(_github(root).every(f"/rules/branches/{FOLLOWED}"))
    except LoopError as error:
        return _unknown(what, error)
    given = [rule.get("parameters") or {} for rule in rules if rule["type"] == "pull_request"]
    if not given:
        return Finding("default", what, f"no ruleset asks for pull requests into {FOLLOWED}", PROTECTION)
    if lacking := [said for key, said in REVIEW.items() if not any(each.get(key) for each in given)]:
        return Finding("bad", what, f"the ruleset lacks: {'; '.join(lacking)}", PROTECTION)
    return Finding("ok", what, "by code owners, of the latest push")


def _github(root: Path) -> GitHub:
    return replace(GitHub.of_environment(root), patience=5.0)


def _named(github: GitHub, path: str, *nothing: int) -> set[str]:
    """Return the names of the secrets that GitHub lists at `path`.

    The result is empty if GitHub answers with one of the HTTP statuses in `nothing`.
    """
    try:
        return {str(secret["name"]) for secret in github.every(path, "secrets")}
    except GitHubError as error:
        if error.status not in nothing:
            raise
        return set()


def _unknown(what: str, error: LoopError) -> Finding:
    fix = "export GITHUB_TOKEN=$(gh auth token), of who administers the repository"
    return Finding("default", what, f"not checked: {error.args[0]}", fix)


def models_of(root: Path) -> list[Finding]:
    """A row for each model of params.yaml, and for each folder of a model that it does not name."""
    try:
        names = list(params.read(root))
    except LoopError as error:
        return [Finding("bad", plain.FILE, str(error.args[0]), error.fix)]
    known = [_asked(root, f"model {public(name)}", partial(_model, name=name)) for name in names]
    return [*known, *_unnamed(root, set(names))]


def _unnamed(root: Path, names: set[str]) -> Iterator[Finding]:
    """Folders of models that params.yaml does not name: no stage runs, but Argo CD follows their overlays."""
    for pattern in ("src/models/*", "bentos/*", "kustomize/models/*", "kustomize/overlays/*/*"):
        for path in sorted(root.glob(pattern)):
            if path.is_dir() and path.name != "__pycache__" and path.name.replace("-", "_") not in names:
                where = path.relative_to(root)
                fix = f"add a section for it under `models:`, or git rm -r {where}"
                yield Finding("bad", str(where), f"{plain.FILE} names no model {path.name}", fix)


def _model(root: Path, name: str) -> Finding:
    from loop.pipeline import evaluate, source  # here, as they import NumPy and Arrow

    what, settings = f"model {public(name)}", params.load(root, name)
    evaluate.check(models.check(root, name, settings), settings)
    if params.pinned_here(root, settings.ingest):
        source.check(settings.ingest, name, root)
    if why := params.unshared(root, name):
        return Finding("bad", what, why, params.SHARE)
    bento, shared = f"bentos/{name}", f"kustomize/models/{public(name)}/{KUSTOMIZATION}"
    locks = [plain.serving_lock(name, device) for device in plain.by_device(root, name)]
    wanted = (f"{bento}/asgi.py", f"{bento}/service.py", *locks, shared)
    overlays = list((root / "kustomize" / "overlays").glob(f"*/{public(name)}"))
    if missing := [path for path in wanted if not (root / path).is_file()]:
        return Finding("bad", what, f"{', '.join(missing)} missing", "see docs/fork.md")
    if not overlays:
        return Finding("bad", what, "no overlay names it", "see docs/fork.md")
    for overlay in sorted(overlays):
        path = f"{state.folder(overlay.parent.name, name)}/release.yaml"
        state.parse(edited.read(root / path, path, "take it from another overlay that serves nothing"), path)
    if strange := list(_strangers(root, name, overlays)):
        return Finding("bad", what, "; ".join(strange), "see docs/fork.md")
    found = f"complete; overlays: {', '.join(sorted(overlay.parent.name for overlay in overlays))}"
    return Finding("ok", what, found)


def _strangers(root: Path, name: str, overlays: list[Path]) -> Iterator[str]:
    """Where the folders of a model still have another model's name: the text there, and the right text."""
    service, shared = root / "bentos" / name / "service.py", root / "kustomize" / "models" / public(name)
    wanted = [
        (service, r'(?m)^ *name="(.*)",$', name),
        (shared / KUSTOMIZATION, r"(?m)^ *app\.kubernetes\.io/name: *(\S+)$", public(name)),
        *(
            (overlay / KUSTOMIZATION, r"(?m)^namespace: *(\S+)$", f"{public(name)}-{overlay.parent.name}")
            for overlay in sorted(overlays)
        ),
    ]
    for path, pattern, should in wanted:
        text = edited.read(path, str(path.relative_to(root)), "see docs/fork.md")
        for found in re.findall(pattern, text):
            if found != should:
                yield f"{path.relative_to(root)} says {found}, should be {should}"
