"""What Argo CD will apply, for every overlay and in every state a release can be in."""

import shutil
from pathlib import Path

import pytest

from loop.core.errors import Rejected
from loop.delivery import render
from loop.delivery.state import State, Track, files
from loop.delivery.steps import promoted, released, rolled_back, step_of

ROOT = Path(__file__).resolve().parents[2]
OVERLAYS = sorted(
    path.parent.relative_to(ROOT) for path in ROOT.glob("kustomize/overlays/*/*/kustomization.yaml")
)
A, B = "a" * 12, "b" * 12


def track(key: str, weight: int = 0) -> Track:
    """A release by its key."""
    return Track(
        key=key,
        image=f"registry.example.com:5000/model@sha256:{key[0] * 64}",
        weight=weight,
        model_md5="1" * 32,
        data_md5="2" * 32,
        commit="c" * 40,
        mlflow="model/1",
        bento=f"model:{key}",
    )


def life() -> dict[str, State]:
    """A state of each kind, by its step."""
    states = [State(), State(stable=track(A, 100))]
    states.append(released(states[-1], track(B), canary=True))
    while states[-1].canary:
        states.append(promoted(states[-1], B, step_of(states[-1]), (10, 50, 100)))
    return {step_of(state): state for state in states} | {"rolled back": rolled_back(states[3], "errors")}


@pytest.fixture
def tree(tmp_path, repository, monkeypatch):
    """A copy of the kustomize tree to set states in, with the pinned programs and the schemas."""
    shutil.copytree(repository / "kustomize", tmp_path / "kustomize")
    (tmp_path / "tests" / "manifests").mkdir(parents=True)
    (tmp_path / render.SCHEMAS).parent.symlink_to((repository / render.SCHEMAS).parent)
    programs = Path(render.program(repository, "kustomize")).parent
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    return tmp_path


def rendered(tree: Path, overlay: Path, state: State) -> list[dict]:
    """An overlay's objects in a state, checked by policy and schema."""
    environment, model = overlay.parts[-2:]
    for path, text in files(state, environment, model).items():
        (tree / path).write_text(text)
    manifests = render.build(tree, tree / overlay)
    render.check(tree, manifests, str(overlay))
    return render.documents(manifests)


def of(kind: str, objects: list[dict]) -> list[dict]:
    return [each for each in objects if each["kind"] == kind]


@pytest.mark.parametrize("overlay", OVERLAYS, ids=str)
@pytest.mark.parametrize("step", life())
def test_every_overlay_renders_in_every_state(tree, overlay, step):
    """It keeps to policy and schema, with the tracks, images and weights that the state names."""
    state = life()[step]
    tracks = {name: found for name in ("stable", "canary") if (found := getattr(state, name))}
    objects = rendered(tree, overlay, state)
    images = {
        each["metadata"]["name"]: each["spec"]["template"]["spec"]["containers"][0]["image"]
        for each in of("Deployment", objects)
    }
    assert images == {f"serving-{name}": track.image for name, track in tracks.items()}
    weights = {
        backend["name"]: backend["weight"]
        for route in of("HTTPRoute", objects)
        for backend in route["spec"]["rules"][0]["backendRefs"]
    }
    assert weights == {f"serving-{name}": track.weight for name, track in tracks.items()}
    for kind in ("Service", "ServiceAccount", "HorizontalPodAutoscaler", "PodDisruptionBudget"):
        assert {each["metadata"]["name"] for each in of(kind, objects)} == set(images)
    assert not of("Release", objects)


@pytest.mark.parametrize("overlay", OVERLAYS, ids=str)
def test_a_track_is_alone(tree, overlay):
    """Selectors of one track never match the other's pods, and each autoscaler has its own Deployment."""
    objects = rendered(tree, overlay, life()["canary-10"])
    for kind in ("Service", "Deployment"):
        tracks = []
        for each in of(kind, objects):
            selector = each["spec"]["selector"]
            tracks.append(selector.get("matchLabels", selector)["track"])
        assert sorted(tracks) == ["canary", "stable"]
    for scaler in of("HorizontalPodAutoscaler", objects):
        assert scaler["spec"]["scaleTargetRef"]["name"] == scaler["metadata"]["name"]


@pytest.mark.parametrize("overlay", OVERLAYS, ids=str)
def test_everything_is_in_the_overlays_own_namespace(tree, overlay):
    """It brings its Namespace, under restricted pod security, by the name that Argo CD expects."""
    environment, model = overlay.parts[-2:]
    objects = rendered(tree, overlay, life()["canary-10"])
    (namespace,) = of("Namespace", objects)
    assert namespace["metadata"]["name"] == f"{model}-{environment}"
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    others = {each["metadata"].get("namespace") for each in objects if each["kind"] != "Namespace"}
    assert others == {f"{model}-{environment}"}


def test_fraud_detector_has_what_it_asked_for_in_production(tree):
    """Two to ten replicas on the GPU pool, within its resources."""
    objects = rendered(tree, Path("kustomize/overlays/production/fraud-detector"), life()["stable"])
    (deployment,), (scaler,) = of("Deployment", objects), of("HorizontalPodAutoscaler", objects)
    pod = deployment["spec"]["template"]["spec"]
    assert pod["containers"][0]["resources"] == {
        "requests": {"cpu": "2", "memory": "4Gi"},
        "limits": {"cpu": "4", "memory": "8Gi", "nvidia.com/gpu": 1},
    }
    assert pod["nodeSelector"] == {"accelerator": "nvidia-a100"}
    assert (scaler["spec"]["minReplicas"], scaler["spec"]["maxReplicas"]) == (2, 10)


def test_a_new_model_is_two_folders(tree, repository):
    """Copied under another name it renders, and nothing shared changed."""
    for folder in ("models", "overlays/dev"):
        theirs = tree / "kustomize" / folder / "digits"
        shutil.copytree(tree / "kustomize" / folder / "fraud-detector", theirs)
        for path in theirs.rglob("*.yaml"):
            path.write_text(path.read_text().replace("fraud-detector", "digits"))
    objects = rendered(tree, Path("kustomize/overlays/dev/digits"), life()["canary-10"])
    assert {each["metadata"]["labels"]["app.kubernetes.io/name"] for each in objects} == {"digits"}


def test_no_shared_folder_names_a_model(repository):
    """base, tracks and components are the template's: they serve any model."""
    models = {path.name for path in (repository / "kustomize" / "models").iterdir()}
    shared = [repository / "kustomize" / name for name in ("base", "tracks", "components")]
    shared.append(repository / "argocd")
    texts = [path.read_text() for folder in shared for path in folder.rglob("*.yaml")]
    assert not [model for model in models for text in texts if model in text]


def test_an_unknown_key_is_rejected_by_schema(tree):
    """A typing error in a manifest stops here, not in the cluster."""
    overlay = tree / "kustomize/overlays/dev/fraud-detector"
    base = tree / "kustomize/base/deployment.yaml"
    base.write_text(base.read_text().replace("preStop:", "prestop:"))
    with pytest.raises(Rejected, match="'prestop' not allowed"):
        rendered(tree, overlay.relative_to(tree), life()["stable"])
