"""The demo's seven chapters. Each chapter ends by checking Git, GitHub or production."""

import os
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx
import pyarrow.parquet as pq

from loop.core import params
from loop.core.errors import Exit, LoopError
from loop.core.files import read_json
from loop.core.names import public
from loop.core.params import TimeSplit
from loop.core.project import Project
from loop.monitoring.dispatch import retrainings
from loop_demo.envoy import Envoy
from loop_demo.fault import spoilt
from loop_demo.team import ENVIRONMENT, Team
from loop_demo.traffic import Traffic, replay
from loop_demo.world import World

RATE = 200.0  # requests per second while the judge watches a canary
PATIENCE = 400  # seconds within which the judge must have promoted a canary or rolled it back
SCORED = 15_000  # about the number of rows that are scored while weeks of production pass


@dataclass
class Stage(Team):
    """The parts of the demo that every chapter uses."""

    envoy: Envoy
    world: World
    published: bool  # whether the rows come from a published file; if so, published results are shown too


def first_release(stage: Stage) -> None:
    """Chapter 0: main is pushed. The first model goes straight to stable, because nothing is served yet."""
    before = stage.hub.runs("release.yml")
    stage.git.run("push", "--quiet", "origin", "HEAD:main")
    run = stage.finished("release.yml", before)
    stage.expect(run, "success")
    stage.merge_release()
    served = stage.state().stable
    stage.tell.step(f"production serves {served.key if served else 'nothing'}")


def change_a_param(stage: Stage) -> None:
    """Chapter 1: a pull request changes a parameter. CI evaluates the model and reports the difference."""
    pull = trained_with(stage, "better", stage.world.folder.demo.BETTER)
    stage.expect(stage.checked(pull), "success")
    stage.tell.markdown(stage.hub.report(pull["number"]))
    if stage.published and (published := getattr(stage.world.folder.demo, "PUBLISHED", None)):
        stage.tell.beside_published(published, read_json(Project(stage.clone, stage.model).metrics))
    stage.merge(pull)


def trained_with(stage: Stage, branch: str, changes: dict[str, Any]) -> dict[str, Any]:
    """Open a pull request that sets parameters and contains the model trained with them."""

    def edit() -> None:
        params.edit(stage.clone, {f"models.{stage.model}.{key}": value for key, value in changes.items()})
        stage.loop("repro", stage.model)

    said = ", ".join(f"{key} to {value}" for key, value in changes.items())
    return stage.propose(branch, f"Set {said}", edit)


def canary(stage: Stage) -> None:
    """Chapter 2: the judge promotes the canary step by step, by its verdicts on live requests."""
    key = judged(stage)
    now = stage.state()
    if not now.stable or now.stable.key != key or now.canary:
        raise LoopError(f"{key} was not promoted: production is {now}")
    stage.tell.step(f"promoted: production serves {key}")


def judged(stage: Stage) -> str:
    """Merge the release's pull request, run the judge until the canary ends, and return the release key."""
    stage.merge_release()
    track = stage.state().canary
    if track is None:
        raise LoopError("the release was merged, but production has no canary")
    with Traffic(stage.world, stage.envoy.url("gateway"), rate=RATE, before=stage.world.phase_end) as traffic:
        watch(stage)
    sent, answered = traffic.answers.total(), traffic.answers[httpx.codes.OK]
    stage.tell.step(f"{sent:,} live requests, {sent - answered} failed")
    return track.key


def watch(stage: Stage) -> None:
    """Run the judge until production has no canary, for PATIENCE at most; print its lines as they come."""
    command = ["./loop", "judge", public(stage.model), "--environment", ENVIRONMENT, "--dispatch"]
    tracks = [f"--{track}={stage.envoy.url(track)}" for track in ("stable", "canary")]
    lines = []
    with subprocess.Popen(
        [*command, *tracks, "--every", "1"],
        cwd=stage.clone,
        env={**os.environ, **stage.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as judge:
        late = threading.Timer(PATIENCE, judge.terminate)
        late.daemon = True
        late.start()
        for line in map(str.rstrip, judge.stdout or ()):
            stage.tell.line(f"judge: {line}")
            lines.append(line)
    late.cancel()
    if judge.returncode:
        raise LoopError(f"the judge ended with {judge.returncode}: {lines[-5:]}")


def stopped(stage: Stage) -> None:
    """Chapter 3: validation rejects bad data, and the gate blocks a model that learnt next to nothing."""
    folder = stage.clone.parent / "bad"
    folder.mkdir()
    files = stage.world.folder.demo.bad(pq.read_table(Project(stage.clone, stage.model).raw), folder)
    sources = [f"--source={file}" for file in files]
    title = "Take data from a new source"
    data = stage.propose("bad-data", title, lambda: stage.loop("pin", stage.model, *sources))
    candidate = trained_with(stage, "worse", stage.world.folder.demo.WORSE)
    stage.expect(stage.checked(data), "failure", "validate stopped the data")
    unchanged = "nothing was trained, and production is unchanged"
    stage.tell.step(f"#{data['number']} is rejected by validation: {unchanged}")
    stage.expect(stage.checked(candidate), "failure", "block")
    stage.tell.markdown(stage.hub.report(candidate["number"]))
    stage.tell.step(f"#{candidate['number']} is blocked by the gate, and production is unchanged")


def drift(stage: Stage) -> None:
    """Chapter 4: production drifts; drift.yml detects it and dispatches train.yml, which retrains."""
    calm = passed(stage, stage.world.drift_from)
    stage.tell.step(f"{calm}, distributed like the training data")
    if stage.world.roles.time is None:
        stage.tell.step("the rows have no time column, so the monitor uses the time of the requests")
    look(stage, Exit.OK)
    stage.tell.step(f"{passed(stage, stage.world.retrain_at)}, drifted")
    trains = stage.hub.runs("train.yml")
    daily(stage, meanwhile=lambda: look(stage, Exit.DRIFT))
    stage.tell.step("drift.yml dispatched train.yml, which retrains, evaluates and proposes a release")
    stage.expect(stage.finished("train.yml", trains), "success")
    daily(stage)
    if (asked := len(stage.hub.runs("train.yml") - trains)) != 1:
        raise LoopError(f"two runs of drift.yml dispatched {asked} retrainings, expected 1")
    commit = stage.git.fetch("main")
    if (found := retrainings(stage.git, stage.model, commit)) != 1:
        raise LoopError(
            f"main has {found} retrainings for drift, expected 1",
            fix="with 0, the gate kept the champion; train.yml's log has the reasons",
        )
    retraining = stage.git.run("log", "-1", "--grep=^Action: retrain$", "--format=%h %s", commit)
    stage.tell.step(f"two runs of drift.yml dispatched one retraining: {retraining}")
    if not isinstance(stage.world.model_params.split, TimeSplit):
        stage.tell.step(
            "rows from production are used for training only. The gate compared the models on the source's "
            "test part, so it did not measure the retrained model on the drifted rows"
        )


def passed(stage: Stage, until: datetime) -> str:
    """Let production run on until `until`; return a sentence with the numbers of rows and of scored rows."""
    world = stage.world
    rows, days = world.left(until), (until - world.now).days
    scored = replay(world, stage.envoy.url("gateway"), until, max(1, rows // SCORED))
    of = f"{days} days of production passed" if world.roles.time else "production went on"
    return f"{of} ({rows:,} rows came, {scored:,} of them scored)"


def look(stage: Stage, code: Exit) -> None:
    """Run ./loop monitor as a person does, and keep its report; LoopError if its exit code is not `code`."""
    stage.git.run("checkout", "--quiet", "--detach", stage.git.fetch("main"))
    stage.loop("repro", stage.model)
    log = str(stage.clone.parent / "predictions")
    stage.tell.line(stage.loop("monitor", public(stage.model), "--log", log, code=code))


def daily(stage: Stage, meanwhile: Callable[[], object] = lambda: None) -> None:
    """Run drift.yml as GitHub's timer does once a day; `meanwhile` is called while it runs."""
    before = stage.hub.runs("drift.yml")
    stage.hub.person.dispatch("drift.yml", {"model": public(stage.model)})
    meanwhile()
    stage.expect(stage.finished("drift.yml", before), "success")


def bad_canary(stage: Stage) -> None:
    """Chapter 6: a release that fails behind the gateway is rolled back by a commit and blocked."""

    def edit() -> None:
        service = stage.clone / "bentos" / stage.model / "asgi.py"
        service.write_text(spoilt(service.read_text()))

    pull = stage.propose("numbered", "Number predictions as the gateway does", edit)
    stage.expect(stage.checked(pull), "success")
    stage.merge(pull)
    served = stage.state().stable
    key = judged(stage)
    now = stage.state()
    if now.canary or now.stable != served or key not in {barred.key for barred in now.barred}:
        raise LoopError(f"{key} was not rolled back: production is {now}")
    before = served.key if served else None
    stage.tell.step(f"rolled back by commit: production serves {before}, {key} is blocked")
