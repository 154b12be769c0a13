"""`render --check` of all overlays: what two must not share, and what the cluster lets nobody change."""

import json
import shutil
from pathlib import Path

import pytest
from releases import MODEL, A, track

from loop.core import params
from loop.core.errors import Rejected
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
    """The kustomize tree and its params: dev serves a release, staging none, and production is not there."""
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
    """Change one thing in a file."""
    text = (tree / path).read_text()
    assert old in text
    (tree / path).write_text(text.replace(old, new))


def said(tree: Path, before: Path | None = None) -> list[str]:
    """What is wrong, a line each."""
    with pytest.raises(Rejected) as rejected:
        overlays.check(tree, before)
    return str(rejected.value).splitlines()


@pytest.fixture
def before(tree, tmp_path):
    """The same tree, before it is changed."""
    return shutil.copytree(tree, tmp_path / "before", symlinks=True)


def test_sound_overlays_pass(tree, before, template):
    """Each by itself and all together, compared with what was there before; a new one, too."""
    shutil.copytree(template / PRODUCTION, tree / PRODUCTION)
    for path, text in files(State(), "production", MODEL).items():
        (tree / path).write_text(text)
    assert list(overlays.check(tree, before)) == list(map(str, sorted((DEV, PRODUCTION, STAGING))))


def test_two_overlays_answer_to_two_hosts(tree):
    """The gateway accepts both and gives the older one all calls. It is found before the first release."""
    put(tree, STAGING / "kustomization.yaml", "[card-fraud.staging.", "[card-fraud.dev.")
    (line,) = said(tree)
    assert line.startswith(f"{DEV} and {STAGING} both use host name card-fraud.dev.example.com, ")


def test_a_first_release_breaks_nothing(tree):
    """The machine commits it, so no pull request would show that the overlay breaks with a release."""
    operation = json.dumps([{"op": "add", "path": "/spec/replicas", "value": 3}])
    replicas = f"patches:\n  - target: {{kind: Deployment}}\n    patch: '{operation}'\n"
    put(tree, STAGING / "kustomization.yaml", "patches:\n", replicas)
    first, *_ = said(tree)
    assert first == f"{STAGING}, once it serves a release:"


def test_labels_are_the_overlays_own(tree):
    """By a copied label a judge would move another model's canary, and alerts would name the wrong one."""
    put(tree, SHARED, "name: card-fraud", "name: churn")
    put(tree, DEV / "kustomization.yaml", "environment: dev", "environment: staging")
    lines = said(tree)
    assert any("say churn-staging, must say card-fraud-dev" in line for line in lines)
    assert any("say churn-staging, must say card-fraud-staging" in line for line in lines)


def test_argocd_sees_a_change_of_whatever_an_overlay_needs(tree):
    """A folder that two models share is outside the folders that Argo CD watches for an overlay."""
    common = tree / "kustomize" / "models" / "common"
    common.mkdir()
    (common / "kustomization.yaml").write_text("kind: Component\nlabels: [{pairs: {team: risk}}]\n")
    put(tree, SHARED, "components:\n", "components:\n  - ../common\n")
    lines = said(tree)
    assert len(lines) == 2
    assert all("needs kustomize/models/common, which Argo CD does not watch" in line for line in lines)
    put(tree, Path(overlays.APPLICATIONS), ";/kustomize/base;", ";/kustomize/base;/kustomize/models/common;")
    assert overlays.check(tree)


def test_what_the_cluster_would_not_change_is_rejected(tree, before):
    """One refused object fails every sync of its Application, even a rollback's. Only dev has objects yet."""
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
        f"{claim}: its storage shrank",
        "Deployment serving-stable: spec.selector changed",
    }


def test_what_the_cluster_can_change_passes(tree, before):
    """A claim may grow, and a Deployment's selector may change if annotations have Argo CD replace it."""
    put(tree, CLAIM, "storage: 1Gi", "storage: 1.5Gi")
    anew = f"kind: Deployment\nmetadata:\n  annotations:\n    {overlays.OPTIONS}: Force=true,Replace=true"
    put(tree, Path("kustomize/base/deployment.yaml"), "kind: Deployment\nmetadata:", anew)
    put(tree, STABLE, "track: stable", "track: stable\n      team: risk")
    assert overlays.check(tree, before)
