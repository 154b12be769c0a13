"""The manifests that Argo CD applies, for every overlay and every state of a release."""

import json
import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import jsonschema
import pytest
from connections import Edge, edges
from releases import MONITOR, A, B, canary, git, track
from ruamel.yaml import YAML
from trained import loop

from loop.core import params, plain
from loop.core.errors import Rejected
from loop.core.project import Project
from loop.core.release_state import State, Track, files
from loop.delivery import appproject, policy, render
from loop.delivery.policy import PUBLIC
from loop.delivery.steps import promoted, released, rolled_back, step_of

ROOT = Path(__file__).resolve().parents[2]
OVERLAYS = sorted(
    path.parent.relative_to(ROOT) for path in ROOT.glob("kustomize/overlays/*/*/kustomization.yaml")
)
PRODUCTION = Path("kustomize/overlays/production/card-fraud")
DIGEST = f"sha256:{'e' * 64}"
RULES, ONE = params.Canary(), params.Canary(peak=1)  # for production, and with component `small`


def life(rules: params.Canary = RULES) -> dict[str, State]:
    """Return a state for each step of a release. Most have an image for judge and monitor."""
    states = [State(), State(stable=track(A, 100))]
    states.append(released(states[-1], track(B), canary=True, monitor=MONITOR, rules=rules))
    while states[-1].canary:
        states.append(promoted(states[-1], B, step_of(states[-1]), rules))
    unwatched = {"unwatched": canary(10), "rolled back": rolled_back(states[3], "errors")}
    return {step_of(state): state for state in states} | unwatched


@pytest.fixture
def tree(tmp_path, template):
    """Copy the manifests of the tests' own model, so that a test can change their state."""
    return copied(template, tmp_path)


@pytest.fixture(scope="module")
def production(template, tmp_path_factory):
    """Return a function that renders production's overlay of the tests' own model at a step, once."""
    root = copied(template, tmp_path_factory.mktemp("production"))
    return cache(lambda step: rendered(root, PRODUCTION, life()[step], RULES.peak))


@pytest.fixture(scope="module")
def ours(repository, tmp_path_factory):
    """Return a function that gives an overlay's checked objects at a step, for this repository's models.

    One kustomize renders all overlays of a step together, because starting it takes most of the time.
    """
    root = copied(repository, tmp_path_factory.mktemp("ours"))
    overlays = [f"../{overlay}" for overlay in OVERLAYS]
    (root / "every").mkdir()
    (root / "every" / "kustomization.yaml").write_text(json.dumps({"resources": overlays}))

    @cache
    def every(step: str) -> dict[Path, tuple[list[dict], list[str]]]:
        for overlay in OVERLAYS:
            write(root, overlay, states(overlay)[step])
        manifests = render.build(root / "every")
        objects, invalid = render.documents(manifests), render.invalid(manifests)
        parts = {
            overlay: [each for each in objects if namespace(overlay) in places(each)] for overlay in OVERLAYS
        }
        assert sum(map(len, parts.values())) == len(objects), "an object is in no overlay's namespace"
        found = {}
        for overlay, part in parts.items():
            faults = [*invalid, *policy.breaches(part), *appproject.breaches(root, part, namespace(overlay))]
            faults += render.too_few_pods(part, states(overlay)[step], rules_of(overlay).peak)
            found[overlay] = part, faults
        return found

    def at(step: str, overlay: Path) -> list[dict]:
        objects, faults = every(step)[overlay]
        assert faults == []
        return objects

    return at


def namespace(overlay: Path) -> str:
    environment, model = overlay.parts[-2:]
    return f"{model}-{environment}"


def places(manifest: dict) -> set[str]:
    """Return an object's namespace; for a namespace, its name."""
    metadata = manifest["metadata"]
    return {metadata["name"] if manifest["kind"] == "Namespace" else metadata.get("namespace", "")}


@cache
def rules_of(overlay: Path) -> params.Canary:
    component = ROOT / "kustomize/models" / overlay.name / "kustomization.yaml"
    texts = [path.read_text() for path in (ROOT / overlay / "kustomization.yaml", component)]
    small = any("components/small" in text for text in texts)
    return ONE if small else params.load(ROOT, overlay.name).canary


@cache
def states(overlay: Path) -> dict[str, State]:
    """Return a state for each step, and one with a release for the device that params.yaml names."""
    release = track(A, 100)
    if plain.device(Project(ROOT, overlay.name), overlay.parts[-2]) == "cuda":
        release = on_gpu(release)
    return life(rules_of(overlay)) | {"for its device": State(stable=release)}


def copied(root: Path, to: Path) -> Path:
    for folder in ("kustomize", "argocd"):
        shutil.copytree(root / folder, to / folder)
    return to


def rendered(tree: Path, overlay: Path, state: State, peak: int = 0) -> list[dict]:
    """Render and check an overlay in a state and return its objects; `peak` checks the pods' number too."""
    write(tree, overlay, state)
    pods = {"state": state, "peak": peak} if peak else {}
    return render.check(tree, render.build(tree / overlay), str(overlay), namespace(overlay), **pods)


def write(tree: Path, overlay: Path, state: State) -> None:
    environment, model = overlay.parts[-2:]
    for path, text in files(state, environment, model).items():
        (tree / path).write_text(text)


def of(kind: str, objects: list[dict]) -> list[dict]:
    return [each for each in objects if each["kind"] == kind]


def serving(objects: list[dict]) -> dict[str, dict]:
    """Return the Deployments of the tracks by name."""
    every = {each["metadata"]["name"]: each for each in of("Deployment", objects)}
    return {name: each for name, each in every.items() if name.startswith("serving-")}


def container(pod: dict, kind: str = "containers") -> dict:
    (only,) = pod[kind]
    return only


@pytest.mark.contract
@pytest.mark.parametrize("overlay", OVERLAYS, ids=str)
@pytest.mark.parametrize("step", life())
def test_every_overlay_renders_in_every_state(ours, overlay, step):
    """Every overlay renders correctly in every state: unreleased, stable, each canary step, rolled back."""
    renders(ours(step, overlay), step, rules_of(overlay))


@pytest.mark.parametrize("step", life())
def test_production_has_the_pods_that_each_state_needs(production, step):
    """In each state, production has as many pods as its share of canary.peak."""
    renders(production(step), step, RULES)


def renders(objects: list[dict], step: str, rules: params.Canary) -> None:
    """Check that an overlay has rendered with the tracks, images, weights and pods of a state."""
    state = life(rules)[step]
    tracks = {name: found for name in ("stable", "canary") if (found := getattr(state, name))}
    images = {
        name: container(each["spec"]["template"]["spec"])["image"] for name, each in serving(objects).items()
    }
    assert images == {f"serving-{name}": track.image for name, track in tracks.items()}
    weights = {
        backend["name"]: backend["weight"]
        for route in of("HTTPRoute", objects)
        for backend in route["spec"]["rules"][0]["backendRefs"]
    }
    both = {"serving-stable": 100, "serving-canary": 0} if tracks else {}
    assert weights == both | {f"serving-{name}": track.weight for name, track in tracks.items()}
    public = [
        (match["path"]["type"], match["path"]["value"])
        for route in of("HTTPRoute", objects)
        for rule in route["spec"]["rules"]
        for match in rule["matches"]
    ]
    assert public == ([("Exact", path) for path in PUBLIC] if tracks else [])
    assert {each["metadata"]["name"] for each in of("Service", objects)} == set(both)
    for kind in ("ServiceAccount", "HorizontalPodAutoscaler", "PodDisruptionBudget"):
        assert {each["metadata"]["name"] for each in of(kind, objects)} == set(images)
    assert not of("Release", objects)
    least = replicas(objects)
    assert all(least[f"serving-{name}"] == track.replicas for name, track in tracks.items() if track.replicas)
    assert all(each["spec"]["maxReplicas"] >= rules.peak for each in of("HorizontalPodAutoscaler", objects))
    if state.canary and step != "unwatched":  # an older version's state, without a number of pods
        assert 100 * least["serving-canary"] >= rules.peak * state.canary.weight
        assert least["serving-stable"] >= rules.peak or step == "canary-0"


@pytest.mark.parametrize("step", life())
def test_judge_and_drift_job_run_only_when_they_can_work(production, step):
    """The judge runs beside a canary, the drift job beside stable, and neither without an image."""
    state, objects = life()[step], production(step)
    deployments = {each["metadata"]["name"]: each for each in of("Deployment", objects)}
    jobs = [each["spec"]["jobTemplate"]["spec"]["template"]["spec"] for each in of("CronJob", objects)]
    assert ("judge" in deployments) == bool(state.canary and state.monitor)
    assert len(jobs) == bool(state.stable and state.monitor)
    pods = [
        *jobs,
        *(deployments[name]["spec"]["template"]["spec"] for name in deployments if name == "judge"),
    ]
    assert {container(pod)["image"] for pod in pods} <= {MONITOR}
    assert all(container(pod, "initContainers")["image"] == state.stable.image for pod in jobs)
    names = {each["metadata"]["name"] for each in of("NetworkPolicy", objects)}
    assert {"judge", "drift"} & names == {*(["drift"] if jobs else []), *deployments} - set(serving(objects))


def test_only_these_connections_are_allowed(production):
    """Only the gateway, the monitoring and the judge may call models, and models may call only DNS."""
    internet = "0.0.0.0/0 except 10.0.0.0/8, 100.64.0.0/10, 169.254.0.0/16, 172.16.0.0/12, 192.168.0.0/16"
    tracks = ("serving-stable", "serving-canary")
    expected = {
        Edge(source, track, "TCP 3000") for source in ("gateway", "monitoring", "judge") for track in tracks
    }
    expected |= {Edge("judge", "monitoring", "TCP 9090"), Edge("drift", "monitoring", "TCP 9091")}
    expected |= {Edge(source, internet, "TCP 443") for source in ("judge", "drift")}
    expected |= {
        Edge(source, "kube-system/kube-dns", f"{protocol} 53")
        for source in (*tracks, "judge", "drift")
        for protocol in ("TCP", "UDP")
    }
    assert edges(production("canary-10")) == expected


def pod_of(name: str, namespace: str, **labels: str) -> dict:
    """Return a Deployment with one container that declares no port."""
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "any"}]}}
    return {
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"template": template},
    }


def test_only_the_drift_job_may_push(tree, production):
    """Only production's drift job and Prometheus can reach the Pushgateway, no other pod of the cluster."""
    name, component = "app.kubernetes.io/name", "app.kubernetes.io/component"
    objects = [
        *production("canary-10"),
        *rendered(tree, Path("kustomize/overlays/dev/card-fraud"), life()["stable"]),
        *render.documents(render.build(tree / "kustomize/platform")),
        pod_of("pushgateway", "monitoring", **{name: "prometheus-pushgateway"}),
        pod_of("prometheus", "monitoring", **{name: "prometheus"}),
        pod_of("grafana", "monitoring", **{name: "grafana"}),
        pod_of("posing", "card-fraud-dev", **{component: "drift"}),
        pod_of("outside", "other-team", **{component: "drift"}),
    ]
    into = {(edge.source, edge.port) for edge in edges(objects) if edge.target == "pushgateway"}
    assert into == {("drift", "TCP 9091"), ("prometheus", "TCP 9091")}


@pytest.mark.contract
@pytest.mark.parametrize("overlay", OVERLAYS, ids=str)
def test_the_log_outlives_a_canary(ours, overlay):
    """Both tracks write to one volume claim, which exists before, during and after a canary."""
    objects = ours("canary-10", overlay)
    claims = {
        volume["persistentVolumeClaim"]["claimName"]
        for each in serving(objects).values()
        for volume in each["spec"]["template"]["spec"]["volumes"]
        if "persistentVolumeClaim" in volume
    }
    assert claims == {"predictions"}
    for step in ("none", "stable", "rolled back"):
        (claim,) = of("PersistentVolumeClaim", ours(step, overlay))
        assert claim["metadata"]["name"] == "predictions"


@pytest.mark.contract
@pytest.mark.parametrize("overlay", OVERLAYS, ids=str)
def test_a_track_selects_only_its_own_pods(ours, overlay):
    """Selectors of one track never match the other's pods, and each autoscaler scales its own Deployment."""
    objects = ours("canary-10", overlay)
    for kind in (of("Service", objects), serving(objects).values()):
        tracks = []
        for each in kind:
            selector = each["spec"]["selector"]
            tracks.append(selector.get("matchLabels", selector)["track"])
        assert sorted(tracks) == ["canary", "stable"]
    for scaler in of("HorizontalPodAutoscaler", objects):
        assert scaler["spec"]["scaleTargetRef"]["name"] == scaler["metadata"]["name"]


@pytest.mark.contract
@pytest.mark.parametrize("overlay", OVERLAYS, ids=str)
def test_everything_is_in_the_overlays_own_namespace(repository, tmp_path, overlay):
    """An overlay's objects are in its own namespace, which it creates with restricted pod security."""
    environment, model = overlay.parts[-2:]
    root = copied(repository, tmp_path)
    write(root, overlay, states(overlay)["canary-10"])
    objects = render.documents(render.build(root / overlay))  # alone, because `ours` sorts by namespace
    (space,) = of("Namespace", objects)
    assert space["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert {place for each in objects for place in places(each)} == {namespace(overlay)}
    labels = [each["metadata"]["labels"] for each in objects]
    assert {each["environment"] for each in labels} == {environment}
    assert {each["app.kubernetes.io/name"] for each in labels} == {model}


def test_production_has_the_resources_that_the_model_requests(tree):
    """In production a model has its resources, on the GPU pool, and two to ten replicas of ten requests."""
    objects = rendered(tree, PRODUCTION, State(stable=on_gpu(track(A, 100))))
    (deployment,), (scaler,) = serving(objects).values(), of("HorizontalPodAutoscaler", objects)
    pod = deployment["spec"]["template"]["spec"]
    assert container(pod)["resources"] == {
        "requests": {"cpu": "2", "memory": "4Gi"},
        "limits": {"cpu": "4", "memory": "8Gi", "nvidia.com/gpu": 1},
    }
    assert pod["nodeSelector"] == {"accelerator": "nvidia-a100"}
    assert pod["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert (scaler["spec"]["minReplicas"], scaler["spec"]["maxReplicas"]) == (2, 10)
    (metric,) = scaler["spec"]["metrics"]
    assert metric["pods"]["metric"]["name"] == "model_requests_in_progress"
    assert metric["pods"]["target"] == {"type": "AverageValue", "averageValue": "10"}


def on_gpu(release: Track) -> Track:
    return release.model_copy(update={"device": "cuda"})


def test_only_a_release_for_gpus_requests_one(tree):
    """If stable is built for CPUs and the canary for GPUs, only the canary runs on the GPU pool."""
    objects = rendered(tree, PRODUCTION, State(stable=track(A, 90), canary=on_gpu(track(B, 10))))
    pods = {name: each["spec"]["template"]["spec"] for name, each in serving(objects).items()}
    limits = {name: container(pod)["resources"]["limits"] for name, pod in pods.items()}
    assert [name for name, limit in limits.items() if "nvidia.com/gpu" in limit] == ["serving-canary"]
    assert [name for name, pod in pods.items() if "nodeSelector" in pod] == ["serving-canary"]
    devices = {"serving-canary": [{"name": "SCORER_DEVICE", "value": "cuda"}], "serving-stable": []}
    assert devices == {
        name: [each for each in container(pod)["env"] if each["name"] == "SCORER_DEVICE"]
        for name, pod in pods.items()
    }


@pytest.mark.parametrize("without", ["no component gpu", "component small"])
def test_a_gpu_release_without_a_gpu_is_rejected(tree, without):
    """`render --check` rejects an overlay that would run a release for GPUs on a CPU."""
    path, gpu = tree / PRODUCTION / "kustomization.yaml", "  - ../../../components/gpu\n"
    instead = "" if without == "no component gpu" else f"{gpu}  - ../../../components/small\n"
    path.write_text(path.read_text().replace(gpu, instead))
    with pytest.raises(Rejected, match=r"built for a GPU, but it does not limit nvidia\.com/gpu"):
        rendered(tree, PRODUCTION, State(stable=on_gpu(track(A, 100))))


@pytest.mark.contract
@pytest.mark.parametrize("overlay", OVERLAYS, ids=str)
def test_pods_are_on_the_gpu_pool_where_params_say_so(ours, overlay):
    """A model's pods are on the GPU pool exactly in the environments whose `serve.device` is cuda."""
    device = plain.device(Project(ROOT, overlay.name), overlay.parts[-2])
    (deployment,) = serving(ours("for its device", overlay)).values()
    pod = deployment["spec"]["template"]["spec"]
    asks = "nvidia.com/gpu" in container(pod)["resources"]["limits"]
    assert asks == ("nodeSelector" in pod) == ("tolerations" in pod) == (device == "cuda")


def with_training(tree: Path, repository: str, commit: str) -> dict:
    """Add component `train` to production's overlay, as in docs/real-cluster.md, and return its Job."""
    path = tree / PRODUCTION / "kustomization.yaml"
    overlay = YAML(typ="safe").load(path)
    overlay["components"].insert(0, "../../../components/train")
    overlay["images"] = [{"name": "train", "newName": "registry.example.com/monitor", "digest": DIGEST}]
    environment = [{"name": "REPOSITORY", "value": repository}, {"name": "COMMIT", "value": commit}]
    pod = {"containers": [{"name": "train", "env": environment}]}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "train"}}
    overlay["patches"].append({"patch": json.dumps({**job, "spec": {"template": {"spec": pod}}})})
    path.write_text(json.dumps(overlay))
    objects = rendered(tree, PRODUCTION, State(stable=track(A, 100)))
    assert [edge for edge in edges(objects) if "train" in edge and "DNS" not in edge]
    (found,) = of("Job", objects)
    return dict(found)


def test_training_is_a_job_on_the_gpu_pool(tree):
    """Training is a Job that passes every policy, has one GPU, and names its image by digest."""
    pod = with_training(tree, "https://git.example.com/team/loop.git", "c" * 40)["spec"]["template"]["spec"]
    assert container(pod)["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert pod["nodeSelector"] == {"accelerator": "nvidia-a100"}
    assert container(pod)["image"] == f"registry.example.com/monitor@{DIGEST}"


def test_a_training_job_ends_its_log_with_the_change_for_git(tree, tmp_path):
    """The training job trains the requested commit, pushes the data, and prints a patch for `git apply`."""
    origin = tmp_path / "origin"
    origin.mkdir()
    git(origin, "init", "--quiet")
    (origin / "dvc.lock").write_text("old\n")
    (origin / "loop").write_text(
        "#!/bin/sh\necho $@ with $LOOP_LOCK; echo $2 >dvc.lock; echo {} >metrics.json\n"
    )
    (origin / "loop").chmod(0o755)
    git(origin, "add", "--all")
    git(origin, "commit", "--quiet", "--message=train this")
    wanted = git(origin, "rev-parse", "HEAD")
    git(origin, "rm", "--quiet", "loop")
    git(origin, "commit", "--quiet", "--message=and not this")
    job = container(with_training(tree, str(origin), wanted)["spec"]["template"]["spec"])
    (home := tmp_path / "home").mkdir()
    env = {each["name"]: each["value"] for each in job["env"] if "value" in each}
    env |= {"PATH": os.environ["PATH"], "HOME": str(home), "MODEL": "card-fraud", "GITHUB_TOKEN": "none"}
    done = subprocess.run(
        [*job["command"], *job["args"]], cwd=home, env=env, check=True, capture_output=True, text=True
    )
    assert done.stdout.startswith("repro card-fraud with requirements-gpu.lock\npush card-fraud with ")
    git(origin, "checkout", "--quiet", wanted)
    patch = done.stdout[done.stdout.index("diff --git") :]
    subprocess.run(["git", "apply"], cwd=origin, input=patch, check=True, text=True)
    assert (origin / "dvc.lock").read_text() == "card-fraud\n"
    assert (origin / "metrics.json").read_text() == "{}\n"


def test_a_canary_needs_one_more_pod(tree, production):
    """A canary begins with one replica, while stable keeps its own during and after the canary.

    If the peak is one pod, that is still so when the canary has traffic.
    """
    least = {step: replicas(production(step)) for step in ("canary-0", "stable")}
    assert least == {"canary-0": {"serving-stable": 2, "serving-canary": 1}, "stable": {"serving-stable": 2}}
    assert replicas(rendered(tree, PRODUCTION, life(ONE)["canary-10"])) == least["canary-0"]


def replicas(objects: list[dict]) -> dict[str, int]:
    """Return each autoscaler's minimum of replicas."""
    return {
        each["metadata"]["name"]: each["spec"]["minReplicas"]
        for each in of("HorizontalPodAutoscaler", objects)
    }


@pytest.mark.parametrize(
    ("patched", "said"),
    [
        ("minReplicas", "serving-canary: minReplicas is 3, must be 5 at step canary-10"),
        (
            "maxReplicas",
            "serving-stable: maxReplicas is 3, but canary.peak in params.yaml says that all traffic",
        ),
    ],
)
def test_a_patch_that_takes_a_canarys_pods_away_is_rejected(tree, patched, said):
    """A patch of replicas that leaves a step of a canary with too few pods is rejected."""
    path, yaml = tree / PRODUCTION / "kustomization.yaml", YAML()
    overlay = yaml.load(path.read_text())
    operation = [{"op": "replace", "path": f"/spec/{patched}", "value": 3}]
    overlay["patches"].append({"target": {"kind": "HorizontalPodAutoscaler"}, "patch": json.dumps(operation)})
    yaml.dump(overlay, path)
    with pytest.raises(Rejected, match=re.escape(said)):
        rendered(tree, PRODUCTION, life()["canary-10"], RULES.peak)


def test_small_makes_production_fit_a_node_of_two_cores(tree):
    """With component `small`, stable, canary and judge together request a quarter of a core and no GPU."""
    path = tree / PRODUCTION / "kustomization.yaml"
    path.write_text(
        path.read_text().replace("components/gpu", "components/gpu\n  - ../../../components/small")
    )
    objects = rendered(tree, PRODUCTION, life(ONE)["canary-10"], ONE.peak)
    assert replicas(objects) == {"serving-stable": 1, "serving-canary": 1}
    pods = [each["spec"]["template"]["spec"] for each in of("Deployment", objects)]
    assert sorted(container(pod)["resources"]["requests"]["cpu"] for pod in pods) == ["100m", "100m", "50m"]
    assert not any({"nodeSelector", "tolerations"} & pod.keys() for pod in pods)
    metrics = {each["spec"]["metrics"][0]["type"] for each in of("HorizontalPodAutoscaler", objects)}
    assert metrics == {"Resource"}


def test_a_new_model_needs_only_two_folders(tree):
    """A model's two folders, copied under another name, render without a change of shared files."""
    for folder in ("models", "overlays/dev"):
        theirs = tree / "kustomize" / folder / "digits"
        shutil.copytree(tree / "kustomize" / folder / "card-fraud", theirs)
        for path in theirs.rglob("*.yaml"):
            path.write_text(path.read_text().replace("card-fraud", "digits"))
    objects = rendered(tree, Path("kustomize/overlays/dev/digits"), life()["canary-10"])
    assert {each["metadata"]["labels"]["app.kubernetes.io/name"] for each in objects} == {"digits"}


def test_an_unknown_key_is_rejected_by_schema(tree):
    """A typing error in a manifest is found by `render --check`, before it reaches the cluster."""
    overlay = tree / "kustomize/overlays/dev/card-fraud"
    base = tree / "kustomize/base/deployment.yaml"
    base.write_text(base.read_text().replace("preStop:", "prestop:"))
    with pytest.raises(Rejected, match="'prestop' not allowed"):
        rendered(tree, overlay.relative_to(tree), life()["stable"])


def kserve(tree: Path, state: State) -> dict:
    """Return the output of `loop render --kserve` for a state."""
    for name in ("params.yaml", "dvc.yaml"):  # the command recognizes a clone by these files
        (tree / name).touch()
    environment, model = PRODUCTION.parts[-2:]
    write(tree, PRODUCTION, state)
    return YAML(typ="safe").load(loop(tree, "render", model, "--environment", environment, "--kserve"))


@pytest.mark.parametrize("step", [step for step, state in life().items() if state.stable])
def test_a_release_can_be_an_inference_service(tree, step):
    """A release renders as a valid InferenceService of KServe, which runs its image by digest.

    A canary's weight is canaryTrafficPercent. After the hand-over, when both tracks have the same release,
    there is no percentage, because KServe would read 0 as a rollback.
    """
    state = life()[step]
    service = kserve(tree, state)
    jsonschema.validate(service, json.loads((Path(__file__).parent / "inferenceservice.json").read_text()))
    predictor = service["spec"]["predictor"]
    split = state.canary and state.canary.image != state.stable.image
    (container,) = predictor["containers"]
    assert container["image"] == (state.canary if split else state.stable).image
    assert "@sha256:" in container["image"]
    assert predictor.get("canaryTrafficPercent") == (state.canary.weight if split else None)


def test_an_inference_service_needs_a_release(tree):
    """For an overlay that serves nothing, `render --kserve` fails and says so."""
    with pytest.raises(AssertionError, match="nothing is released"):
        kserve(tree, State())
