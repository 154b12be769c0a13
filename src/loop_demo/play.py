"""Prepares the demo in a scratch clone, plays its chapters, and prints where its results are."""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.text import Text

from loop.core import params, paths, plain, repository
from loop.core.dvc import share_cache
from loop.core.files import read_json
from loop.core.git import Git
from loop.core.names import package, public
from loop.core.project import Project
from loop.fork import folders
from loop.packaging.process import Server, free_port
from loop_demo import story
from loop_demo.console import Console
from loop_demo.envoy import Envoy
from loop_demo.hub import REPOSITORY, Hub
from loop_demo.node import Node
from loop_demo.story import Stage
from loop_demo.team import ENVIRONMENT, loop
from loop_demo.world import World

DAYS = {"calm_days": 14, "drift_days": 35, "after_days": 14}
OURS = repository.Repository("demo", f"https://github.com/{REPOSITORY}.git", "registry.test/demo")
CHAPTERS = {
    "1 A pull request changes a parameter": story.change_a_param,
    "2 Its release goes through a canary": story.canary,
    "3 Bad data and a bad candidate are stopped": story.stopped,
    "4 Production drifts, and the model is retrained": story.drift,
    "5 The second release goes through a canary": story.canary,
    "6 A faulty release is rolled back from its canary": story.bad_canary,
}


def play(root: Path, source: Path | None, model: str | None = None) -> None:
    """Play the whole demo in `root`/build/demo, from a clean start.

    `model` defaults to the first model in params.yaml. Raises LoopError if its folder has no module `demo`.
    """
    name = package(model or next(iter(params.read(root))))
    _ = Project(root, name).folder.demo
    folder = root / "build" / "demo"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    tell = Console()
    with ExitStack() as stack:
        with tell.chapter("0 A team forks the template and releases its first model"):
            stage = stack.enter_context(staged(root, folder, source, tell, name))
            story.first_release(stage)
        for title, chapter in CHAPTERS.items():
            with tell.chapter(title):
                chapter(stage)
        closing(stage, folder, tell)


@contextmanager
def staged(root: Path, folder: Path, source: Path | None, tell: Console, model: str) -> Iterator[Stage]:
    """Start the stand-in for GitHub, a gateway and a node, and make a person's clone with a trained model."""
    os.environ.update(
        {
            "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
            # The demo has no container registry, so bentos are pinned as artifacts on disk
            "LOOP_ENGINE": "none",
            "PATH": f"{paths.programs()}:{os.environ['PATH']}",
        }
    )
    with ExitStack() as stack:
        hub = stack.enter_context(Hub(folder / "github", {"PREDICTION_LOG": f"{folder}/predictions"}))
        clone = folder / "clone"
        fork(root, clone, hub, OURS, model)
        configure(clone, model, folder / "store", source)
        tell.step("training the first model with ./loop repro, as a person does")
        told = {**credentials(hub), "COLUMNS": str(tell.rich.width)}
        loop(clone, told, "repro", model)
        Git(clone).run("add", "--all")
        Git(clone).run("commit", "--quiet", "-m", "Train the first model")
        world = World(clone, model, folder / "store", **DAYS)
        ports = {name: free_port() for name in ("admin", "gateway", "stable", "canary")}
        envoy = stack.enter_context(Envoy(folder / "envoy", ports))
        node = Node(hub.clone_url, folder, model, envoy, tell.step)
        stage = Stage(tell, hub, clone, model, told, envoy, world, published=source is not None)
        first_answer(stage)
        stack.enter_context(node)
        yield stage


def first_answer(stage: Stage) -> None:
    """Show the first model's metrics, serve the model on this machine, and show its answer to one request."""
    project = Project(stage.clone, stage.model)
    stage.tell.metrics(read_json(project.metrics))
    stage.loop("bento", stage.model)
    with Server(Path(read_json(project.build / "bento.json")["path"])) as server:
        [body] = stage.world.take(1)
        answer = httpx.post(f"{server.url}/predict", json=body, timeout=30, trust_env=False)
    stage.tell.step(f"the model, served on this machine, answers: {answer.raise_for_status().text}")


def fork(root: Path, clone: Path, hub: Hub, ours: repository.Repository, model: str) -> None:
    """Push this clone's commit to the stand-in, as forking on GitHub does; clone the fork and name it.

    The fork keeps one of the template's models and drops the others, as a team would.
    """
    Git(root).run("push", "--quiet", str(hub.bare), "HEAD:refs/heads/main")
    Git(clone.parent).run("clone", "--quiet", "--branch", "main", hub.clone_url, str(clone))
    git = Git(clone)
    git.run("config", "user.name", "Ada")
    git.run("config", "user.email", "ada@example.test")
    share_cache(clone)
    repository.write(clone, ours)
    folders.drop(clone, folders.unwanted(clone, [model]))
    git.run("commit", "--quiet", "--all", "-m", f"Name this fork, and keep {public(model)}")
    git.run("push", "--quiet", str(hub.bare), "HEAD:refs/heads/main")


def configure(clone: Path, model: str, store: Path, source: Path | None) -> None:
    """Change params.yaml as a new team would: the store of production's rows, the team's data, and no GPU."""
    project = Project(clone, model)
    demo = project.folder.demo
    changes: dict[str, Any] = {
        f"models.{model}.monitor.store": str(store),
        # The demo runs everything on one machine at the same time, so answers are slower than in production.
        f"models.{model}.rehearse.max_p99_ms": 1000.0,
        f"models.{model}.canary.min_p99_ms": 500.0,
        **{f"models.{model}.{key}": value for key, value in demo.FIRST.items()},
    }
    if "cuda" in plain.by_device(project):
        # The demo's production is this machine, which may have no GPU
        changes[f"models.{model}.serve.device"] = "cpu"
    files: list[Path] = []
    if source:
        files = [source.resolve()]
        if project.params.split.kind == "time":
            time = project.folder.roles.time
            latest: datetime = pc.max(pq.read_table(source, columns=[time])[time]).as_py()
            # The test window ends before the file's last day, because that day's rows may be incomplete
            changes[f"models.{model}.split.until"] = f"{latest.date()}T00:00:00"
    elif hasattr(demo, "sample"):
        (clone / "sample").mkdir()
        files = [path.relative_to(clone) for path in demo.sample(clone / "sample")]
    params.edit(clone, changes)
    if files:
        loop(clone, {}, "pin", model, *(f"--source={file}" for file in files))


def credentials(hub: Hub) -> dict[str, str]:
    """Environment variables with which a person's or the judge's commands reach the stand-in for GitHub."""
    bot = hub.bot
    return {"LOOP_GITHUB_API_URL": bot.url, "GITHUB_REPOSITORY": bot.repository, "GITHUB_TOKEN": bot.token}


def closing(stage: Stage, folder: Path, tell: Console) -> None:
    """Print production's history from Git, and a list of the places where the demo's results can be read."""
    stage.git.run("checkout", "--quiet", "--detach", stage.git.fetch("main"))
    history = stage.loop("history", public(stage.model), "--environment", ENVIRONMENT)
    tell.rich.print(Text.from_ansi(history), soft_wrap=True)
    stage.loop("repro", stage.model)  # CI has trained main's commit, so its outputs come from DVC's cache
    stage.loop("report")
    places = {
        "the whole report on the model": stage.clone / "build" / "report" / "index.html",
        "this clone": stage.clone,
        "logs of CI, drift and releases": folder / "github" / "runs",
        "drift report": Project(stage.clone, stage.model).build / "monitor" / "report.html",
        "data docs": stage.clone / "data" / stage.model / "validation" / "data_docs" / "index.html",
        "MLflow": f"mlflow ui --backend-store-uri sqlite:///{folder}/mlflow.db",
    }
    for name, place in places.items():
        tell.step(f"{name}: {place}")
    tell.times()
