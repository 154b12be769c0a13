"""The cluster follows Git within seconds, undoes manual changes, and survives a broken commit."""

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
    """The cluster has synced a push within seconds, because a webhook tells Argo CD about it."""
    took = []
    for number in range(SYNCS):
        name = f"{number}.example.com"
        begun = monotonic()
        commit = scene.push(f"Answer to {name} too {QUIET}", lambda name=name: hostname(scene, name))
        scene.wait_until_synced(commit, "dev")
        took.append(monotonic() - begun)
        assert name in scene.objects(ROUTES, "dev")[0]["spec"]["hostnames"]
    scene.figures.at_most("push -> synced, median of 10", median(took), "s", 5)
    scene.figures.record("push -> synced, slowest of 10", max(took), "s")


def change_by_hand(scene: Scene, how: str) -> Callable[[], object]:
    """Change dev without Git, and return a function that says whether the change has been undone."""
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
    """Return the uid of the Service of dev's stable track."""
    found = [s for s in scene.objects("v1/services", "dev") if s["metadata"]["name"] == "serving-stable"]
    return found[0]["metadata"]["uid"] if found else None


@pytest.mark.parametrize("how", ["a Service deleted", "an image edited", "a weight changed"])
def test_argo_cd_undoes_manual_changes(scene: Scene, how: str) -> None:
    """If somebody changes the cluster by hand, Argo CD restores the state in Git."""
    undone = change_by_hand(scene, how)
    begun = monotonic()
    until(undone, f"{how}: Argo CD did not undo it")
    scene.figures.record(f"self-heal: {how}", monotonic() - begun, "s")


def test_a_broken_commit_loses_no_request(scene: Scene) -> None:
    """While an overlay on main does not render, the last good release keeps serving; a revert repairs it."""
    path = scene.overlay("dev")
    with scene.load(20, "broken", "dev") as load:
        commit = scene.push(
            f"Break dev {QUIET}", lambda: path.write_text(f"{path.read_text()}resources: [missing.yaml]\n")
        )
        until(
            lambda: "ComparisonError" in json.dumps(scene.application("dev").get("conditions", [])),
            "Argo CD does not report that dev is broken",
        )
        assert scene.ready("dev")
        begun = monotonic()
        scene.wait_until_synced(scene.revert(commit), "dev")
        scene.figures.record("broken commit reverted -> synced", monotonic() - begun, "s")
    assert load.answers().all
    assert not load.answers().failed


def add_folders(scene: Scene) -> None:
    """Add a second model, and an environment for the first one with the lines that it needs in argocd/."""
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
    for name, text in files(State(), "trial", scene.model).items():
        (scene.team.clone / name).write_text(text)


def test_a_new_folder_becomes_an_application(scene: Scene) -> None:
    """Argo CD deploys a new model's folder by itself, and a new environment's once argocd/ is applied."""
    begun = monotonic()

    def change() -> None:  # argocd/ is applied first, because Argo CD retries a refused sync minutes later
        add_folders(scene)
        scene.cluster.apply(render.build(scene.team.clone / "argocd"))

    commit = scene.push(f"Add rents, and an environment {QUIET}", change)
    names = ("dev-rents", f"trial-{scene.model}")
    for name in names:
        until(lambda name=name: healthy(scene, name), f"{name} is not Synced and Healthy")
    scene.figures.record("new folders -> new Applications Healthy", monotonic() - begun, "s")
    scene.revert(commit)
    for name in names:
        until(
            lambda name=name: scene.cluster.get(f"{APPLICATIONS}/{name}") is None, f"{name} was not removed"
        )


def healthy(scene: Scene, name: str) -> bool:
    """Say whether an Application is Synced and Healthy."""
    status = (scene.cluster.get(f"{APPLICATIONS}/{name}") or {}).get("status", {})
    return (status.get("sync", {}).get("status"), status.get("health", {}).get("status")) == (
        "Synced",
        "Healthy",
    )
