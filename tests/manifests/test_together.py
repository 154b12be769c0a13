"""`render --check` of all overlays finds shared host names, wrong labels, and changes of immutable fields."""

import json
import re
import shutil
from pathlib import Path

import pytest
from releases import MODEL, A, track

from loop.core import params
from loop.core.errors import LoopError, Rejected
from loop.core.release_state import State, files
from loop.delivery import overlays

DEV, STAGING, PRODUCTION = (
    Path(f"kustomize/overlays/{name}/card-fraud") for name in ("dev", "staging", "production")
)
CLAIM = Path("kustomize/components/predictions/claim.yaml")
STABLE = Path("kustomize/tracks/stable/kustomization.yaml")
SHARED = Path("kustomize/models/card-fraud/kustomization.yaml")


@pytest.fixture
def tree(tmp_path, template):
    """Copy manifests and params: dev serves a release, staging serves none, and production does not exist."""
    root = tmp_path / "tree"
    for folder in ("kustomize", "argocd"):
        shutil.copytree(template / folder, root / folder)
    shutil.copy(template / params.FILE, root)
    shutil.rmtree(root / PRODUCTION)
    for environment, state in {"dev": State(stable=track(A, 100)), "staging": State()}.items():
        for path, text in files(state, environment, MODEL).items():
            (root / path).write_text(text)
    return root


def put(tree: Path, path: Path, old: str, new: str) -> None:
    """Replace a text in a file, and check that the file contains it."""
    text = (tree / path).read_text()
    assert old in text
    (tree / path).write_text(text.replace(old, new))


def said(tree: Path, before: Path | None = None) -> list[str]:
    """Check all overlays, which must fail, and return the lines of the message."""
    with pytest.raises(Rejected) as rejected:
        overlays.check(tree, before)
    return str(rejected.value).splitlines()


@pytest.fixture
def before(tree, tmp_path):
    """Copy the tree before a test changes it."""
    return shutil.copytree(tree, tmp_path / "before", symlinks=True)


def test_valid_overlays_pass(tree, before, template):
    """Valid overlays pass, including a new one that the tree before did not have."""
    shutil.copytree(template / PRODUCTION, tree / PRODUCTION)
    for path, text in files(State(), "production", MODEL).items():
        (tree / path).write_text(text)
    assert list(overlays.check(tree, before)) == list(map(str, sorted((DEV, PRODUCTION, STAGING))))


def test_two_overlays_must_not_share_a_host_name(tree):
    """Two overlays with one host name are rejected, because the older one would get all requests."""
    put(tree, STAGING / "kustomization.yaml", "[card-fraud.staging.", "[card-fraud.dev.")
    (line,) = said(tree)
    assert line.startswith(f"{DEV} and {STAGING} both use host name card-fraud.dev.example.com, ")


def test_an_overlay_is_checked_with_its_first_release(tree):
    """An overlay is also checked with its first release, because no pull request shows that commit."""
    operation = json.dumps([{"op": "add", "path": "/spec/replicas", "value": 3}])
    replicas = f"patches:\n  - target: {{kind: Deployment}}\n    patch: '{operation}'\n"
    put(tree, STAGING / "kustomization.yaml", "patches:\n", replicas)
    first, *_ = said(tree)
    assert first == f"{STAGING}, once it serves a release:"


def test_a_damaged_release_state_is_named_with_its_fix(tree):
    """A release.yaml that kustomize cannot read is an error about this file, which says how to restore it."""
    (tree / STAGING / "release/release.yaml").write_text("x:\n")
    with pytest.raises(LoopError, match=f"{STAGING}/release/release.yaml: must be .*\\n.*Git's history"):
        overlays.check(tree)


def test_a_folder_of_another_spelling_is_rejected(tree):
    """Argo CD would deploy a folder with an underscore, but the overlay with a dash would be checked."""
    shutil.copytree(tree / STAGING, wrong := (tree / STAGING).with_name("card_fraud"))
    with pytest.raises(LoopError, match=f"{wrong.relative_to(tree)} should be {STAGING}\n"):
        overlays.check(tree)


def test_an_environment_is_one_folder(tree):
    """A copy of dev with its names changed is an environment, as argocd/ grants dev-<anything> in advance."""
    folder = shutil.copytree(tree / "kustomize/overlays/dev", tree / "kustomize/overlays/dev-anna")
    for path in folder.rglob("*.yaml"):
        path.write_text(re.sub(r"\bdev\b", "dev-anna", path.read_text()))
    assert overlays.check(tree)


def test_copied_labels_are_rejected(tree):
    """Labels of another overlay are rejected, because judge and alerts would act on the wrong model."""
    put(tree, SHARED, "name: card-fraud", "name: churn")
    put(tree, DEV / "kustomization.yaml", "environment: dev", "environment: staging")
    lines = said(tree)
    assert any("say churn-staging, must say card-fraud-dev" in line for line in lines)
    assert any("say churn-staging, must say card-fraud-staging" in line for line in lines)


def test_an_overlay_needs_only_folders_that_argocd_watches(tree):
    """An overlay that needs a folder that Argo CD does not watch is rejected, until the folder is listed."""
    common = tree / "kustomize" / "models" / "common"
    common.mkdir()
    (common / "kustomization.yaml").write_text("kind: Component\nlabels: [{pairs: {team: risk}}]\n")
    put(tree, SHARED, "components:\n", "components:\n  - ../common\n")
    lines = said(tree)
    assert len(lines) == 2
    assert all("needs kustomize/models/common, which Argo CD does not watch" in line for line in lines)
    put(tree, Path(overlays.APPLICATIONS), ";/kustomize/base;", ";/kustomize/base;/kustomize/models/common;")
    assert overlays.check(tree)


def test_changes_that_kubernetes_refuses_are_rejected(tree, before):
    """A change that Kubernetes refuses is rejected, because it would fail every sync, even a rollback's.

    Only dev has such objects yet, so only dev is named.
    """
    put(tree, CLAIM, "spec:", "spec:\n  storageClassName: nfs")
    put(tree, CLAIM, "ReadWriteMany", "ReadWriteOnce")
    put(tree, CLAIM, "storage: 1Gi", "storage: 900Mi")
    put(tree, STABLE, "track: stable", "track: stable\n      team: risk")
    lines = said(tree, before)
    assert all(line.startswith(f"{DEV}: ") for line in lines)
    found = {line.removeprefix(f"{DEV}: ").partition(": Kubernetes would reject")[0] for line in lines}
    claim = "PersistentVolumeClaim predictions"
    assert found == {
        f"{claim}: spec.storageClassName changed",
        f"{claim}: spec.accessModes changed",
        f"{claim}: spec.resources.requests.storage changed",
        "Deployment serving-stable: spec.selector changed",
    }


def test_changes_that_kubernetes_accepts_pass(tree, before):
    """A claim may grow, and a Deployment's selector may change if its annotations let Argo CD replace it."""
    put(tree, CLAIM, "storage: 1Gi", "storage: 1.5Gi")
    replaced = f"kind: Deployment\nmetadata:\n  annotations:\n    {overlays.OPTIONS}: Force=true,Replace=true"
    put(tree, Path("kustomize/base/deployment.yaml"), "kind: Deployment\nmetadata:", replaced)
    put(tree, STABLE, "track: stable", "track: stable\n      team: risk")
    assert overlays.check(tree, before)
