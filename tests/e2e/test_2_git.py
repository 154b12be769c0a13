"""The cluster is as Git says: quickly, whoever meddles, and whatever is committed."""

import json
import shutil
from collections.abc import Callable
from statistics import median
from time import monotonic

import pytest
from cluster import until
from ruamel.yaml import YAML
from scene import APPLICATIONS, QUIET, Scene
from trained import add

from loop.core.release_state import State, files
from loop.delivery import render
from loop.delivery.appproject import ADMISSION, PROJECT

SYNCS = 10
ROUTES = "gateway.networking.k8s.io/v1/httproutes"


def hostname(scene: Scene, name: str) -> None:
    """Add a host name to dev's route."""
    yaml, path = YAML(), scene.overlay("dev")
    overlay = yaml.load(path.read_text())
    added = [{"op": "add", "path": "/spec/hostnames/-", "value": name}]
    overlay["patches"].append(
        {"target": {"kind": "HTTPRoute", "name": "serving"}, "patch": json.dumps(added)}
    )
    with path.open("w") as file:
        yaml.dump(overlay, file)


def test_a_commit_is_synced_at_once(scene: Scene) -> None:
    """From a push to the synced cluster it takes seconds, by the webhook."""
    took = []
    for number in range(SYNCS):
        name = f"{number}.example.com"
        begun = monotonic()
        commit = scene.push(f"Answer to {name} too {QUIET}", lambda name=name: hostname(scene, name))
        scene.synced(commit, "dev")
        took.append(monotonic() - begun)
        assert name in scene.objects(ROUTES, "dev")[0]["spec"]["hostnames"]
    scene.figures.most("commit -> synced, median of 10", median(took), "s", 5)
    scene.figures.tell("commit -> synced, the slowest of 10", max(took), "s")


def changed_by_hand(scene: Scene, how: str) -> Callable[[], object]:
    """Change dev behind Git's back; what says that it is as before."""
    namespace = ("--namespace", scene.namespace("dev"))
    if how == "a Service deleted":
        old = uid(scene)
        scene.cluster.kubectl("delete", "service", "serving-stable", *namespace)
        return lambda: uid(scene) not in {None, old}
    if how == "an image edited":
        image = scene.objects("apps/v1/deployments", "dev")[0]["spec"]["template"]["spec"]["containers"][0][
            "image"
        ]
        other = f"bento={image.partition('@')[0]}@sha256:{'0' * 64}"
        scene.cluster.kubectl("set", "image", "deployment/serving-stable", other, *namespace)
        return lambda: image in json.dumps(scene.objects("apps/v1/deployments", "dev")[0]["spec"])
    edit = '[{"op": "replace", "path": "/spec/rules/0/backendRefs/0/weight", "value": 1}]'
    scene.cluster.kubectl("patch", "httproute", "serving", "--type=json", f"--patch={edit}", *namespace)
    return lambda: scene.weights("dev")["serving-stable"] == 100


def uid(scene: Scene) -> str | None:
    """Which Service dev's stable track has."""
    found = [s for s in scene.objects("v1/services", "dev") if s["metadata"]["name"] == "serving-stable"]
    return found[0]["metadata"]["uid"] if found else None


@pytest.mark.parametrize("how", ["a Service deleted", "an image edited", "a weight changed"])
def test_what_is_done_by_hand_comes_back(scene: Scene, how: str) -> None:
    """What somebody changes in the cluster, Argo CD makes as Git says."""
    back = changed_by_hand(scene, how)
    begun = monotonic()
    until(back, f"{how}: it did not come back")
    scene.figures.tell(f"self-heal: {how}", monotonic() - begun, "s")


def test_a_broken_commit_leaves_the_last_good_state(scene: Scene) -> None:
    """An overlay that does not render takes nothing down; undone, all is well."""
    path = scene.overlay("dev")
    with scene.load(20, "broken", "dev") as load:
        commit = scene.push(
            f"Break dev {QUIET}", lambda: path.write_text(f"{path.read_text()}resources: [missing.yaml]\n")
        )
        until(
            lambda: "ComparisonError" in json.dumps(scene.application("dev").get("conditions", [])),
            "Argo CD does not say that dev is broken",
        )
        assert scene.ready("dev")
        begun = monotonic()
        scene.synced(scene.revert(commit), "dev")
        scene.figures.tell("broken commit undone -> synced", monotonic() - begun, "s")
    assert load.answers().all
    assert not load.answers().failed


def added(scene: Scene) -> None:
    """A second model's folders, and a second place for the first one, with its two lines in argocd/."""
    add(scene.team.clone, "rents")
    old = scene.overlay("staging").parent
    new = old.parent.parent / "trial" / scene.model
    shutil.copytree(old, new)
    overlay = new / "kustomization.yaml"
    overlay.write_text(overlay.read_text().replace("staging", "trial"))
    for file, old_line, line in (
        (
            PROJECT,
            '*-dev"',
            '*-dev"\n    - server: https://kubernetes.default.svc\n      namespace: "*-trial"',
        ),
        (ADMISSION, "(dev|", "(trial|dev|"),
    ):
        path = scene.team.clone / file
        path.write_text(path.read_text().replace(old_line, line))
    for name, text in files(State(), "trial", scene.model).items():  # nothing is released there
        (scene.team.clone / name).write_text(text)


def test_a_new_folder_is_a_new_application(scene: Scene) -> None:
    """A new model's folder appears in the cluster by itself, a new environment's once argocd/ is applied."""
    begun = monotonic()

    def change() -> None:  # argocd/ first: Argo CD retries only minutes later what a project refused
        added(scene)
        scene.cluster.apply(render.build(scene.team.clone / "argocd"))

    commit = scene.push(f"Add rents, and an environment {QUIET}", change)
    names = ("dev-rents", f"trial-{scene.model}")
    for name in names:
        until(lambda name=name: healthy(scene, name), f"{name} is not Synced and Healthy")
    scene.figures.tell("new folders -> new Applications Healthy", monotonic() - begun, "s")
    scene.revert(commit)
    for name in names:
        until(lambda name=name: scene.cluster.get(f"{APPLICATIONS}/{name}") is None, f"{name} stays")


def healthy(scene: Scene, name: str) -> bool:
    """Whether an Application is Synced and Healthy."""
    status = (scene.cluster.get(f"{APPLICATIONS}/{name}") or {}).get("status", {})
    return (status.get("sync", {}).get("status"), status.get("health", {}).get("status")) == (
        "Synced",
        "Healthy",
    )
