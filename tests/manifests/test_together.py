"""`render --check` of all overlays: what two may not share, and what the cluster would not change."""

import json
import shutil
from pathlib import Path

import pytest
from releases import MODEL, A, track

from loop.core import params
from loop.core.errors import Rejected
from loop.delivery import overlays, render
from loop.delivery.state import State, files

pytestmark = pytest.mark.sample

DEV, STAGING, PRODUCTION = (
    Path(f"kustomize/overlays/{name}/fraud-detector") for name in ("dev", "staging", "production")
)
CLAIM = Path("kustomize/components/predictions/claim.yaml")
STABLE = Path("kustomize/tracks/stable/kustomization.yaml")
SHARED = Path("kustomize/models/fraud-detector/kustomization.yaml")


@pytest.fixture
def tree(tmp_path, repository, monkeypatch):
    """The kustomize tree and its params, in which dev serves a release and nobody else does."""
    root = tmp_path / "tree"
    for folder in ("kustomize", "argocd"):
        shutil.copytree(repository / folder, root / folder)
    shutil.copy(repository / params.FILE, root)
    (root / "tests" / "manifests").mkdir(parents=True)
    (root / render.SCHEMAS).parent.symlink_to((repository / render.SCHEMAS).parent)
    monkeypatch.setenv("PATH", str(Path(render.program(repository, "kustomize")).parent), prepend=":")
    for environment in ("dev", "staging", "production"):
        state = State(stable=track(A, 100)) if environment == "dev" else State()
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


def test_sound_overlays_pass(tree, before):
    """Each by itself and all together, compared with what was there before."""
    assert list(overlays.check(tree, before)) == list(map(str, sorted((DEV, PRODUCTION, STAGING))))


def test_two_overlays_answer_to_two_hosts(tree):
    """The gateway would give the older route all calls, and accept both. It is found before either serves."""
    put(tree, STAGING / "kustomization.yaml", "[fraud-detector.staging.", "[fraud-detector.")
    (line,) = said(tree)
    assert line.startswith(f"{PRODUCTION} and {STAGING} both answer to fraud-detector.example.com: ")


def test_a_first_release_breaks_nothing(tree):
    """The machine commits it, so no pull request would show that the overlay does not take it."""
    operation = json.dumps([{"op": "add", "path": "/spec/replicas", "value": 3}])
    replicas = f"patches:\n  - target: {{kind: Deployment}}\n    patch: '{operation}'\n"
    put(tree, STAGING / "kustomization.yaml", "patches:\n", replicas)
    first, *_ = said(tree)
    assert first == f"{STAGING}, once it serves a release:"


@pytest.mark.parametrize(
    ("file", "old", "new", "named"),
    [
        (SHARED, "name: fraud-detector", "name: churn", "churn-dev"),
        (DEV / "kustomization.yaml", "environment: dev", "environment: staging", "fraud-detector-staging"),
    ],
)
def test_labels_are_the_overlays_own(tree, file, old, new, named):
    """By a copied label a judge would move another model's canary, and alerts would name the wrong one."""
    put(tree, file, old, new)
    where, line, *_ = said(tree)
    assert where == f"{DEV}:"
    assert f"say {named}, must say fraud-detector-dev" in line


def test_argocd_sees_a_change_of_whatever_an_overlay_needs(tree):
    """A folder that two models share is beside those which the Application is refreshed for."""
    common = tree / "kustomize" / "models" / "common"
    common.mkdir()
    (common / "kustomization.yaml").write_text("kind: Component\nlabels: [{pairs: {team: risk}}]\n")
    put(tree, SHARED, "components:\n", "components:\n  - ../common\n")
    lines = said(tree)
    assert len(lines) == 3
    assert all("needs kustomize/models/common. Argo CD would not apply" in line for line in lines)
    put(tree, Path(overlays.APPLICATIONS), ";/kustomize/base;", ";/kustomize/base;/kustomize/models/common;")
    assert overlays.check(tree)


REFUSED = {  # what the API server lets nobody change of an object that is there
    "a claim's class": (CLAIM, "spec:", "spec:\n  storageClassName: nfs", "spec.storageClassName"),
    "its access": (CLAIM, "ReadWriteMany", "ReadWriteOnce", "spec.accessModes"),
    "its size, down": (CLAIM, "storage: 1Gi", "storage: 900Mi", "its storage shrinks"),
    "a selector": (STABLE, "track: stable", "track: stable\n      team: risk", "spec.selector"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_the_cluster_would_not_change_is_rejected(tree, before, what):
    """One refused object ends each sync of its Application, a rollback's too. dev alone has any there."""
    file, old, new, why = REFUSED[what]
    put(tree, file, old, new)
    (line,) = said(tree, before)
    assert line.startswith(f"{DEV}: ")
    assert f": {why}" in line
    assert overlays.check(tree)


def test_what_the_cluster_can_change_passes(tree, before):
    """A claim that grows, and a Deployment that Argo CD is told to make anew."""
    put(tree, CLAIM, "storage: 1Gi", "storage: 1.5Gi")
    anew = f"kind: Deployment\nmetadata:\n  annotations:\n    {overlays.OPTIONS}: Force=true,Replace=true"
    put(tree, Path("kustomize/base/deployment.yaml"), "kind: Deployment\nmetadata:", anew)
    put(tree, STABLE, "track: stable", "track: stable\n      team: risk")
    assert overlays.check(tree, before)
