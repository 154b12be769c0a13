"""One scene for the whole session: tests are chapters of one story, in the order of their files."""

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

from loop.core import params, programs, repository
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
    """A chapter may take longer than a test."""
    for item in items:
        item.add_marker(pytest.mark.timeout(900, func_only=True))  # not the cluster's first build


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Remember that something has failed: then logs are kept, and nothing is waited for."""
    report = yield
    if report.failed:
        item.session.stash[FAILED] = True
    return report


@pytest.fixture(scope="session")
def tell() -> Iterator[Console]:
    """Where the story is told; at its end, what each chapter took."""
    tell = Console()
    yield tell
    tell.times()


@pytest.fixture(scope="session")
def scene(request: pytest.FixtureRequest, tell: Console) -> Iterator[Scene]:
    """A cluster, and a fork of HEAD in the stand-in for GitHub that Argo CD follows; nothing is released."""
    folder = ROOT / "build" / "e2e"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    figures = Figures(folder / "figures.json")
    with ExitStack() as stack:
        with tell.chapter("A cluster, and a team with its fork"):
            cluster = stack.enter_context(running())
            stack.enter_context(logs_kept(request.session, cluster, folder))
            scene = staged(stack, cluster, folder, tell, figures)
        yield scene
        figures.table(tell.rich)


@pytest.fixture(autouse=True)
def chapter(request: pytest.FixtureRequest, scene: Scene) -> Iterator[None]:
    """Tell the test's claim and its time; after it nothing is amiss, and the cluster is as Git says."""
    claim = (request.function.__doc__ or "").partition("\n")[0]
    with scene.tell.chapter(claim):
        yield
        if FAILED not in request.session.stash:
            scene.settled()


def staged(stack: ExitStack, cluster: Cluster, folder: Path, tell: Console, figures: Figures) -> Scene:
    """The fork with its first trained model, one commit before its first push."""
    model = next(iter(params.read(ROOT)))
    environment = machine(cluster, folder)
    os.environ.update(environment)
    options = ["--host", cluster.facts.host, "--hook-secret", cluster.facts.webhook_secret]
    options += [f"--hook={url}" for url in cluster.facts.hooks]
    hub = stack.enter_context(Hub(folder / "github", environment, {}, options))
    ours = repository.Repository(name="e2e", url=hub.url, registry=f"{cluster.facts.registry}/acme")
    clone = folder / "clone"
    # Pods see the store at the same path, and in an image only root can enter /root, where a clone may be.
    store = Path(stack.enter_context(TemporaryDirectory(prefix="loop-store-", dir="/var/tmp")))
    play.fork(ROOT, clone, hub, ours, model)
    team = Team(tell, hub, clone, model, {**environment, **play.credentials(hub)})
    shrink(clone, public(model), store, (cluster.facts.host, urlsplit(hub.url).port or 80))
    commit(clone, hub, "This cluster is small")
    configure(clone, model, store)
    tell.step("training the first model, as a person does: ./loop repro")
    team.loop("repro", model)
    team.git.run("add", "--all")
    team.git.run("commit", "--quiet", "-m", "Train the first model")
    world = World(clone, model, store, **play.DAYS)
    scene = Scene(cluster, team, world, figures, folder, folder / "bodies.jsonl")
    scene.write_bodies()
    install(scene, store)
    return scene


def machine(cluster: Cluster, folder: Path) -> dict[str, str]:
    """What this machine's builds need: an engine, the cluster's registry, a base image."""
    registry = cluster.facts.registry
    registries = folder / "registries.conf"
    write_text(registries, f'[[registry]]\nlocation = "{registry}"\ninsecure = true\n')
    base = os.environ.pop("LOOP_BASE_IMAGE", None)
    if base is None:  # set and empty: the one that service.py names
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
        "BUILDAH_ISOLATION": os.environ.get("BUILDAH_ISOLATION", "chroot"),  # in a container too
        **({"LOOP_BASE_IMAGE": base} if base else {}),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "PATH": f"{programs.folder()}:{os.environ['PATH']}",
    }


def commit(clone: Path, hub: Hub, message: str) -> None:
    """A commit that the fork begins with: nothing is started by it."""
    git = Git(clone)
    git.run("add", "--all")
    git.run("commit", "--quiet", "-m", message)
    git.run("push", "--quiet", str(hub.bare), "HEAD:refs/heads/main")


def install(scene: Scene, store: Path) -> None:
    """What a cluster's operator does once: Argo CD follows the fork; a volume, a token."""
    cluster, hub = scene.cluster, scene.team.hub
    store.chmod(0o755)
    credentials = {"type": "git", "url": hub.url, "username": "argocd", "password": hub.bot.token}
    labels = {"argocd.argoproj.io/secret-type": "repository"}
    scene.admit()
    for manifest in (secret_of("fork", "argocd", credentials, labels), volume(store, scene.namespace())):
        cluster.apply(json.dumps(manifest))
    statuses = {"github-api": f"{hub.person.url}/api/v3", "github-token": hub.bot.token}
    cluster.apply(json.dumps(secret_of("argocd-notifications-secret", "argocd", statuses)))
    cluster.apply(render.build(scene.team.clone / "argocd"))


@contextmanager
def logs_kept(session: pytest.Session, cluster: Cluster, folder: Path) -> Iterator[None]:
    """Where a chapter failed, keep what the cluster's parts and pods have said in build/e2e/logs."""
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
