"""The checks of `loop doctor`, one function each. Each returns the state it found and how to fix it."""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from loop.candidate.tracking import Tracking
from loop.core import edited, models, params, paths, plain, release_state, repository
from loop.core.dvc import dvc, sweep
from loop.core.errors import LoopError
from loop.core.git import Git, GitError
from loop.core.github import MISSING, GitHub, GitHubError
from loop.core.names import public
from loop.core.project import Project
from loop.core.repository import masked
from loop.core.results import Finding
from loop.core.text import one_line
from loop.packaging.engine import engine

KUSTOMIZATION = "kustomization.yaml"
FOLLOWED = "main"  # the branch that the workflows run on and that Argo CD deploys
ENVIRONMENT = "main-only"  # the GitHub environment for jobs that use a secret of WRITERS
WRITERS = frozenset({"PUSH_KEY", "REGISTRY_TOKEN", "STORES"})  # secrets that grant write access
REVIEW = {  # parameters that main's rule `pull_request` needs: their names in GitHub's API and on its page
    "dismiss_stale_reviews_on_push": "dismiss stale approvals when new commits are pushed",
    "require_last_push_approval": "require approval of the most recent push",
    "require_code_owner_review": "require review from code owners",
}
PROTECTION, GUIDE = "see docs/protection.md", "see docs/fork.md"
# The answers of a check, to which `_checked` adds what was examined.
_ok, _default, _bad = partial(Finding, "ok", ""), partial(Finding, "default", ""), partial(Finding, "bad", "")


def examine(root: Path, *, cache: bool = False) -> list[Finding]:
    """Run all checks of this machine and this clone. With `cache`, also hash every object in DVC's cache."""
    checks: dict[str, Callable[[Path], Finding]] = {
        "Go programs": _programs,
        "container engine": _engine,
        "repository": _name,
        "top of the repository": _top,
        "git remote": _origin,
        "default branch": _branch,
        "DVC remote": _remote,
        "outputs": _outputs,
        "MLflow": _tracking,
        "write secrets": partial(_at_github, check=_secrets),
        f"review of {FOLLOWED}": partial(_at_github, check=_review),
    }
    found = [_checked(root, what, check) for what, check in checks.items()]
    return [*found, *models_of(root), *([_checked(root, "DVC cache", _cache)] if cache else [])]


def _checked(root: Path, what: str, check: Callable[[Path], Finding]) -> Finding:
    """Return the finding of a check. An exception becomes a finding, so that the other checks still run."""
    try:
        return replace(check(root), what=what)
    except Exception as error:  # noqa: BLE001
        known = error if isinstance(error, LoopError) else models.failure(root, error)
        return _failed(known or LoopError(f"{type(error).__name__}: {one_line(error)}"), what)


def _failed(error: LoopError, what: str = "") -> Finding:
    return Finding("bad", what, str(error.args[0]), error.fix)


def _outputs(root: Path) -> Finding:
    """Check that Git does not track outputs of stages, which DVC tracks."""
    error = paths.tracked(Git(root).run("ls-files", "-z", "--", "data").split("\0"))
    return _failed(error) if error else _ok("Git tracks no output of a stage")


def _cache(root: Path) -> Finding:
    """Set aside objects in DVC's cache whose hash does not match their name."""
    if not (bad := sweep(root)):
        return _ok("the hash of every object matches its name")
    found = [f"{len(bad)} of its objects do not match their names", *map(str, bad[:3])]
    return _bad("; ".join(found), "./loop repro fetches or recreates those that stages of this clone use")


def _programs(_root: Path) -> Finding:
    paths.programs()
    return _ok("act, kustomize, kubeconform, actionlint and crane are built")


def _engine(_root: Path) -> Finding:
    if found := engine():
        return _ok(f"{found} runs")
    advice = "start docker, podman or buildah for container images"
    return _default("none, so bentos are built as OCI artifacts on disk", advice)


def _name(root: Path) -> Finding:
    here = repository.read(root)
    if repository.TEMPLATE in here.url:
        return _default(f"{here.name}, {here.url}", "./loop init --name --url --registry")
    return _ok(f"{here.name}, {here.url}, images at {here.registry}")


def _top(root: Path) -> Finding:
    """Check that the clone is the top folder of its Git repository.

    Paths in workflows and releases are relative to the top, and GitHub finds workflows only there.
    """
    if folder := Git(root).run("rev-parse", "--show-prefix"):
        found = f"the folder {folder} of a larger repository, where GitHub runs no workflow"
        split = f"git subtree split --prefix={folder.rstrip('/')} -b {FOLLOWED}-alone"
        return _bad(found, f"move it into its own repository: {split}")
    return _ok("this folder")


def _origin(root: Path) -> Finding:
    if not Git(root).run("remote"):
        return _default("none", "git remote add origin URL, because releases are pushed to origin")
    url, here = Git(root).run("remote", "get-url", "origin"), repository.read(root)
    shown, other = masked(url), repository.URL.fullmatch(url)
    if here.named and other and other["path"] != here.slug:
        found = f"{shown}, but {repository.PATH} names {here.url}, which Argo CD deploys"
        return _bad(found, "./loop init --url URL, or git remote set-url origin URL")
    return _ok(shown)


def _branch(root: Path) -> Finding:
    """Check that the default branch of origin is the branch that the workflows and Argo CD use."""
    try:
        said = Git(root, seconds=10).run("ls-remote", "--symref", "origin", "HEAD")
    except GitError:
        return _default("unknown, because origin did not answer", "to see the reason: git ls-remote origin")
    named = re.match(r"ref: refs/heads/(\S+)\s", said)
    if named is None:
        return _default("origin has none, because it is empty", f"git push origin HEAD:{FOLLOWED}")
    if named[1] == FOLLOWED:
        return _ok(FOLLOWED)
    rename = (
        "rename it on GitHub: Settings → General → Default branch, or gh api -X POST "
        f"'repos/{{owner}}/{{repo}}/branches/{named[1]}/rename' -f new_name={FOLLOWED}; then here: git fetch "
        f"origin && git branch -m {named[1]} {FOLLOWED} && git branch -u origin/{FOLLOWED} {FOLLOWED}"
    )
    found = f"{named[1]}, but the workflows and Argo CD use {FOLLOWED}, so nothing runs"
    return _bad(found, rename)


def _remote(root: Path) -> Finding:
    found = dvc(root, "remote", "list", quiet=True).strip()
    if not found:
        advice = "dvc remote add --default storage s3://bucket/prefix; do not run `dvc gc` before that"
        none = "none: all clones on this machine share one cache, and there is no other copy"
        return _default(none, advice)
    if not dvc(root, "config", "core.remote", quiet=True).strip():
        return _bad(f"{found}, but no remote is the default", f"dvc remote default {found.split()[0]}")
    return _ok(found)


def _tracking(root: Path) -> Finding:
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        return _default("SQLite in this clone (mlflow.db)", "export MLFLOW_TRACKING_URI=https://…")
    return _ok(f"{masked(Tracking.connect(root, attempts=1).uri)} answers")


def _at_github(root: Path, check: Callable[[GitHub], Finding]) -> Finding:
    """Return the finding of a check of the settings at GitHub, which only an administrator may read."""
    try:
        return check(replace(GitHub.of_environment(root), patience=5.0))
    except LoopError as error:
        fix = "as an administrator of the repository: export GITHUB_TOKEN=$(gh auth token)"
        return _default(f"not checked: {error.args[0]}", fix)


def _secrets(github: GitHub) -> Finding:
    """Check that only jobs on main can read the secrets that grant write access.

    Anyone who can push a branch can read every secret that no GitHub environment protects.
    """
    loose = _named(github, "/actions/secrets") | _named(github, "/actions/organization-secrets", MISSING)
    if loose := loose & WRITERS:
        found = f"{', '.join(sorted(loose))} can be read by a workflow on any branch"
        return _bad(found, f"move them into the environment {ENVIRONMENT}: {PROTECTION}")
    protecting = []
    for environment in github.every("/environments", "environments"):
        name = environment["name"]
        if held := WRITERS & _named(github, f"/environments/{name}/secrets"):
            if (branches := _branches(github, environment)) != [FOLLOWED]:
                found = f"the environment {name}, which has {', '.join(sorted(held))}, can be used from "
                found += ", ".join(branches) or "any branch"
                return _bad(found, f"limit it to {FOLLOWED}: {PROTECTION}")
            protecting.append(name)
    if protecting:
        return _ok(f"in {', '.join(protecting)}, which only {FOLLOWED} can use")
    fix = f"create the environment {ENVIRONMENT} before the first secret: {PROTECTION}"
    return _default("none", fix)


def _branches(github: GitHub, environment: dict[str, Any]) -> list[str]:
    """Return the branches and tags that may use a GitHub environment. An empty list means all of them."""
    if (policy := environment["deployment_branch_policy"]) is None:
        return []
    if policy["protected_branches"]:
        return ["every protected branch"]
    path = f"/environments/{environment['name']}/deployment-branch-policies"
    listed = github.every(path, "branch_policies")
    return [each["name"] if each.get("type") != "tag" else f"the tag {each['name']}" for each in listed]


def _review(github: GitHub) -> Finding:
    """Check that main's ruleset requires an approval of the commits that are merged."""
    rules = github.every(f"/rules/branches/{FOLLOWED}")
    given = [rule.get("parameters") or {} for rule in rules if rule["type"] == "pull_request"]
    if not given:
        return _default(f"no ruleset requires pull requests for {FOLLOWED}", PROTECTION)
    if lacking := [said for key, said in REVIEW.items() if not any(each.get(key) for each in given)]:
        return _bad(f"the ruleset does not: {'; '.join(lacking)}", PROTECTION)
    return _ok("code owners must approve the latest push")


def _named(github: GitHub, path: str, *nothing: int) -> set[str]:
    """Return the names of the secrets at `path`; none if GitHub answers with an HTTP status in `nothing`."""
    try:
        return {str(secret["name"]) for secret in github.every(path, "secrets")}
    except GitHubError as error:
        if error.status not in nothing:
            raise
        return set()


def models_of(root: Path) -> list[Finding]:
    """Return a finding for each model in params.yaml, and for each model's folder without a model there.

    No stage runs for such a folder, but Argo CD deploys its overlays.
    """
    try:
        names = list(params.read(root))
    except LoopError as error:
        return [_failed(error, plain.FILE)]
    found = [_checked(root, f"model {public(name)}", partial(_model, name=name)) for name in names]
    for pattern in ("src/models/*", "bentos/*", "kustomize/models/*", "kustomize/overlays/*/*"):
        for path in sorted(root.glob(pattern)):
            if path.is_dir() and path.name != "__pycache__" and path.name.replace("-", "_") not in names:
                where = str(path.relative_to(root))
                fix = f"add a section for it under `models:`, or git rm -r {where}"
                found.append(Finding("bad", where, f"{plain.FILE} has no model {path.name}", fix))
    return found


def _model(root: Path, name: str) -> Finding:
    from loop.pipeline import evaluate, features, ingest, source  # here, as they import NumPy and Arrow

    project = Project(root, name)
    models.check(project)
    folder, settings = project.folder, project.params
    evaluate.check(folder, settings)
    raw, section = ingest.schema_of(folder), folder.section("features", settings.features)
    made = features.planned(folder, raw.schema.empty_table(), section).schema().to_pyarrow()
    evaluate.check_slices(folder, made.empty_table(), settings.evaluate)
    if params.pinned_here(root, settings.ingest):
        own = models.load_one(root, name, "source", runs=False)  # its functions may read and map anything
        wants = None if hasattr(own, "columns") else raw
        places, tables = settings.ingest.places, not hasattr(own, "read")
        now = source.source_sha256(places, root, tables=tables, wanted=wants)
        source.compare(now, settings.ingest, name)
    if unshared := params.unshared(project):
        return _bad(*unshared)
    locks = [plain.serving_lock(name, device) for device in plain.by_device(project)]
    shared = f"kustomize/models/{project.public}/{KUSTOMIZATION}"
    wanted = (f"bentos/{name}/asgi.py", f"bentos/{name}/service.py", *locks, shared)
    if missing := [path for path in wanted if not (root / path).is_file()]:
        return _bad(f"{', '.join(missing)} missing", GUIDE)
    overlays = sorted((root / plain.OVERLAYS).glob(f"*/{project.public}"))
    if not overlays:
        return _bad("it has no overlay in kustomize/overlays", GUIDE)
    for overlay in overlays:
        release_state.read(root, overlay.parent.name, name)
    if strange := list(_strangers(project, overlays)):
        return _bad("; ".join(strange), GUIDE)
    found = f"complete; overlays: {', '.join(overlay.parent.name for overlay in overlays)}"
    if not settings.gate.floors:
        found += "; gate.floors is empty, so its first release needs to reach no metric"
        return _default(found, f"set models.{name}.gate.floors in {plain.FILE}")
    return _ok(found)


def _strangers(project: Project, overlays: list[Path]) -> Iterator[str]:
    """Yield a message for each file of a model that still has another model's name."""
    name, shared = project.public, project.root / "kustomize" / "models" / project.public
    wanted = [
        (project.bento / "service.py", r'(?m)^ *name="(.*)",$', project.package),
        (shared / KUSTOMIZATION, r"(?m)^ *app\.kubernetes\.io/name: *(\S+)$", name),
    ]
    for overlay in overlays:
        namespace = f"{name}-{overlay.parent.name}"
        wanted.append((overlay / KUSTOMIZATION, r"(?m)^namespace: *(\S+)$", namespace))
    for path, pattern, should in wanted:
        where = path.relative_to(project.root)
        for found in re.findall(pattern, edited.read(path, str(where), GUIDE)):
            if found != should:
                yield f"{where} has {found}, but should have {should}"
