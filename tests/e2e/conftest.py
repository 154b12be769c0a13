"""The fixtures of the e2e tests. All tests share one scene; each is a chapter of one story, in file order."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import pytest
from cluster import Cluster, running, secret_of
from figures import Figures
from scene import Scene
from small import configure, shrink, volume
from standin import ROOT

from loop.core import params, paths, repository
from loop.core.files import write_text
from loop.core.git import Git
from loop.core.names import public
from loop.delivery import render
from loop_demo import play
from loop_demo.console import Console
from loop_demo.hub import Hub
from loop_demo.team import Team
from loop_demo.world import World

FAILED = pytest.StashKey[bool]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each chapter a longer time limit than other tests have."""
    for item in items:
        # The first test's fixtures build the cluster, which may take longer than the limit.
        item.add_marker(pytest.mark.timeout(900, func_only=True))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Record a failure: logs are then saved, and later chapters do not wait for the cluster to settle."""
    report = yield
    if report.failed:
        item.session.stash[FAILED] = True
    return report


@pytest.fixture(scope="session")
def console() -> Iterator[Console]:
    """Return the console that prints the story; at the end it prints how long each chapter took."""
    console = Console()
    yield console
    console.times()


@pytest.fixture(scope="session")
def scene(request: pytest.FixtureRequest, console: Console) -> Iterator[Scene]:
    """Start a cluster, and a fork of HEAD in the stand-in for GitHub. Argo CD follows the fork.

    Nothing is released yet.
    """
    folder = ROOT / "build" / "e2e"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    figures = Figures(folder / "figures.json")
    with ExitStack() as stack:
        with console.chapter("A cluster starts, and a team forks the template"):
            cluster = stack.enter_context(running())
            stack.enter_context(logs_kept(request.session, cluster, folder))
            scene = begin_scene(stack, cluster, folder, console, figures)
        yield scene
        figures.table(console.rich)


@pytest.fixture(autouse=True)
def chapter(request: pytest.FixtureRequest, scene: Scene) -> Iterator[None]:
    """Print the test's claim and how long it took, then check that the cluster is healthy and matches Git."""
    claim = (request.function.__doc__ or "").partition("\n")[0]
    with scene.console.chapter(claim):
        yield
        if FAILED not in request.session.stash:
            scene.wait_until_settled()


def begin_scene(
    stack: ExitStack, cluster: Cluster, folder: Path, console: Console, figures: Figures
) -> Scene:
    """Return the scene after the fork has trained and committed its first model, which it has not pushed."""
    model = next(iter(params.read(ROOT)))
    environment = build_variables(cluster, folder)
    os.environ.update(environment)
    options = ["--host", cluster.facts.host, "--hook-secret", cluster.facts.webhook_secret]
    options += [f"--hook={url}" for url in cluster.facts.hooks]
    hub = stack.enter_context(Hub(folder / "github", {}, options))
    ours = repository.Repository(name="e2e", url=hub.url, registry=f"{cluster.facts.registry}/acme")
    clone = folder / "clone"
    # Pods mount the store at the same path. The clone may be in /root, which only root can enter in an image.
    store = Path(stack.enter_context(TemporaryDirectory(prefix="loop-store-", dir="/var/tmp")))
    play.fork(ROOT, clone, hub, ours, model)
    team = Team(console, hub, clone, model, {**environment, **play.credentials(hub)})
    shrink(clone, public(model), store, (cluster.facts.host, urlsplit(hub.url).port or 80))
    commit(clone, hub, "Fit production to a small cluster")
    configure(clone, model, store)
    console.step("training the first model with ./loop repro, as a person would")
    team.loop("repro", model)
    team.git.run("add", "--all")
    team.git.run("commit", "--quiet", "-m", "Train the first model")
    world = World(clone, model, store, **play.DAYS)
    scene = Scene(cluster, team, world, figures, folder, folder / "bodies.jsonl")
    scene.write_bodies()
    install(scene, store)
    return scene


def build_variables(cluster: Cluster, folder: Path) -> dict[str, str]:
    """Return the variables that builds on this machine need: engine, the cluster's registry, base image."""
    registry = cluster.facts.registry
    registries = folder / "registries.conf"
    write_text(registries, f'[[registry]]\nlocation = "{registry}"\ninsecure = true\n')
    base = os.environ.pop("LOOP_BASE_IMAGE", None)
    if base is None:  # not set; an empty LOOP_BASE_IMAGE means the base image in service.py
        made = subprocess.run(
            [ROOT / "tools" / "cluster" / "base", f"{registry}/acme"],
            stdout=subprocess.PIPE,
            check=True,
            text=True,
        )
        base = made.stdout.strip()
    return {
        "CONTAINERS_REGISTRIES_CONF": str(registries),
        "LOOP_ENGINE": os.environ.get("LOOP_ENGINE", "buildah"),
        "BUILDAH_ISOLATION": os.environ.get("BUILDAH_ISOLATION", "chroot"),  # works inside a container too
        **({"LOOP_BASE_IMAGE": base} if base else {}),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "PATH": f"{paths.programs()}:{os.environ['PATH']}",
    }


def commit(clone: Path, hub: Hub, message: str) -> None:
    """Commit to the fork's main, past the stand-in's server, so that no workflow starts."""
    git = Git(clone)
    git.run("add", "--all")
    git.run("commit", "--quiet", "-m", message)
    git.run("push", "--quiet", str(hub.bare), "HEAD:refs/heads/main")


def install(scene: Scene, store: Path) -> None:
    """Do what a cluster's operator does once: connect Argo CD to the fork, create a volume and a token."""
    cluster, hub = scene.cluster, scene.team.hub
    store.chmod(0o755)
    credentials = {"type": "git", "url": hub.url, "username": "argocd", "password": hub.bot.token}
    labels = {"argocd.argoproj.io/secret-type": "repository"}
    scene.prepare_namespace()
    for manifest in (secret_of("fork", "argocd", credentials, labels), volume(store, scene.namespace())):
        cluster.apply(json.dumps(manifest))
    statuses = {"github-api": f"{hub.person.url}/api/v3", "github-token": hub.bot.token}
    cluster.apply(json.dumps(secret_of("argocd-notifications-secret", "argocd", statuses)))
    cluster.apply(render.build(scene.team.clone / "argocd"))


@contextmanager
def logs_kept(session: pytest.Session, cluster: Cluster, folder: Path) -> Iterator[None]:
    """If a chapter failed, save the logs of the cluster's programs and pods in build/e2e/logs."""
    yield
    if FAILED not in session.stash:
        return
    logs = folder / "logs"
    logs.mkdir(exist_ok=True)
    own = Path(cluster.facts.kubeconfig).parent / "logs"
    if cluster.own and own.is_dir():
        shutil.copytree(own, logs / "node", dirs_exist_ok=True)
    said = {
        "objects.txt": (
            "get",
            "all,applications.argoproj.io,httproutes,pvc,networkpolicies",
            "-A",
            "-o",
            "wide",
        ),
        "applications.yaml": ("get", "applications.argoproj.io", "-A", "-o", "yaml"),
        "pods.yaml": ("get", "pods", "-A", "-o", "yaml"),
        "events.txt": ("get", "events", "-A", "--sort-by=.lastTimestamp"),
    }
    for name, words in said.items():
        write_text(logs / name, cluster.kubectl(*words, codes=(0, 1)))
    for pod in cluster.items("/api/v1/pods"):
        place, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
        words = ("logs", name, "-n", place, "--all-containers", "--ignore-errors", "--tail=500")
        write_text(logs / "pods" / f"{place}.{name}.txt", cluster.kubectl(*words, codes=(0, 1)))
