"""What the demo shows: seven chapters, each ending in something that Git, GitHub or production says."""

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq

from loop.core import params
from loop.core.errors import Exit, LoopError
from loop.core.files import read_json, sha256
from loop.core.names import public
from loop.core.paths import ModelPaths
from loop.monitoring.dispatch import retrainings
from loop_demo.console import Console
from loop_demo.envoy import Envoy
from loop_demo.fault import spoilt
from loop_demo.team import ENVIRONMENT, Proposal, Team
from loop_demo.traffic import Traffic, replay
from loop_demo.world import World

RATE = 200.0  # requests/s while a canary is judged
SCORED = 20  # one in so many transactions is scored while weeks pass


@dataclass
class Stage(Team):
    """What every chapter plays on."""

    envoy: Envoy
    world: World
    published: bool  # whether it turns on a published file: then its results stand beside the published ones


def first_release(stage: Stage) -> None:
    """Chapter 0: main is pushed; the first model is released straight to stable, as nothing is there yet."""
    before = stage.hub.runs("release.yml")
    stage.git.run("push", "--quiet", "origin", "HEAD:main")
    run = stage.finished("release.yml", before)
    stage.expect(run, "success")
    stage.merge_release()
    served = stage.state().stable
    stage.tell.step(f"production serves {served.key if served else 'nothing'}")


def change_a_param(stage: Stage) -> None:
    """Chapter 1: a pull request changes a parameter; CI evaluates it and comments the difference."""
    proposal = trained_with(stage, "better", stage.world.folder.demo.BETTER)
    stage.expect(stage.checked(proposal), "success")
    stage.tell.markdown(stage.hub.report(proposal.number))
    if stage.published:
        metrics = read_json(ModelPaths(stage.clone, stage.model).metrics)
        stage.tell.beside_published(stage.world.folder.demo.PUBLISHED, metrics)
    before = stage.hub.runs("release.yml")
    stage.hub.merge(proposal.number)
    stage.tell.step(f"#{proposal.number} merged; release.yml builds, rehearses, releases")
    stage.expect(stage.finished("release.yml", before), "success")


def trained_with(stage: Stage, branch: str, changes: dict[str, Any]) -> Proposal:
    """A pull request that sets parameters and brings what was trained with them."""

    def edit() -> None:
        params.edit(stage.clone, {f"models.{stage.model}.{key}": value for key, value in changes.items()})
        stage.loop("repro", stage.model)

    said = ", ".join(f"{key} to {value}" for key, value in changes.items())
    return stage.propose(branch, f"Set {said}", edit)


def canary(stage: Stage) -> None:
    """Chapter 2: the canary, each step of it by a judge's verdict on live requests, ends promoted."""
    key = judged(stage)
    now = stage.state()
    if not now.stable or now.stable.key != key or now.canary:
        raise LoopError(f"{key} was not promoted: production is {now}")
    stage.tell.step(f"promoted: production serves {key}")


def judged(stage: Stage) -> str:
    """Merge the release into production and let the judge watch its canary to the end; its key."""
    stage.merge_release()
    track = stage.state().canary
    if track is None:
        raise LoopError("the merged release set no canary")
    with Traffic(stage.world, stage.envoy.url("gateway"), rate=RATE, before=stage.world.phase_end) as traffic:
        watch(stage)
    stage.tell.step(f"{sum(traffic.answers.values()):,} live requests, {traffic.failed} failed")
    return track.key


def watch(stage: Stage) -> None:
    """Run the judge beside the canary until there is no canary; its lines are told as they come."""
    command = ["./loop", "judge", public(stage.model), "--environment", ENVIRONMENT, "--dispatch"]
    tracks = [f"--{track}={stage.envoy.url(track)}" for track in ("stable", "canary")]
    environment = {**os.environ, **stage.environment}
    with subprocess.Popen(
        [*command, *tracks, "--every", "1", "--deadline", "400"],
        cwd=stage.clone,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as judge:
        lines = [line.rstrip() for line in told(judge, stage.tell)]
    if judge.returncode:
        raise LoopError(f"the judge ended with {judge.returncode}: {lines[-5:]}")


def told(process: "subprocess.Popen[str]", tell: Console) -> Iterator[str]:
    """A process's lines; told as they come, but for what was said just before."""
    before = ""
    for line in process.stdout or ():
        if line != before:
            tell.line(f"judge: {line.rstrip()}")
        before = line
        yield line


def bad_data(stage: Stage) -> Proposal:
    """Chapter 3a: rows that validation stops."""
    path = stage.clone.parent / "bad.parquet"
    table = pq.read_table(ModelPaths(stage.clone, stage.model).raw)
    pq.write_table(stage.world.folder.demo.bad(table), path)
    where = f"models.{stage.model}.ingest"
    changes = {f"{where}.source": str(path), f"{where}.sha256": sha256(path)}
    return stage.propose("bad-data", "Take data of a new source", lambda: params.edit(stage.clone, changes))


def bad_candidate(stage: Stage) -> Proposal:
    """Chapter 3b: a model that has learnt next to nothing."""
    return trained_with(stage, "worse", stage.world.folder.demo.WORSE)


def stopped(stage: Stage) -> None:
    """Chapter 3: validation stops bad data, and the gate a bad model; CI checks both at once."""
    data, candidate = bad_data(stage), bad_candidate(stage)
    stage.expect(stage.checked(data), "failure", "validate stopped the data")
    stage.tell.step(f"#{data.number} is stopped by validation: nothing was trained, production is as it was")
    stage.expect(stage.checked(candidate), "failure", "block")
    stage.tell.markdown(stage.hub.report(candidate.number))
    stage.tell.step(f"#{candidate.number} is blocked by the gate: production is as it was")


def drift(stage: Stage) -> None:
    """Chapter 4: production drifts; the drift workflow finds it and dispatches train, which releases."""
    calm = replay(stage.world, stage.envoy.url("gateway"), stage.world.drift_from, SCORED)
    stage.tell.step(f"two calm weeks passed ({calm:,} transactions scored)")
    look(stage, Exit.OK)
    scored = replay(stage.world, stage.envoy.url("gateway"), stage.world.retrain_at, SCORED)
    stage.tell.step(f"five weeks of drifted traffic passed ({scored:,} transactions scored)")
    trains = stage.hub.runs("train.yml")
    daily(stage, meanwhile=lambda: look(stage, Exit.DRIFT))
    stage.tell.step("drift.yml dispatched train.yml: it retrains, judges, registers, builds, proposes")
    stage.expect(stage.finished("train.yml", trains), "success")
    daily(stage)
    if (asked := len(stage.hub.runs("train.yml") - trains)) != 1:
        raise LoopError(f"two looks at one drift dispatched {asked} retrainings, should be 1")
    stage.tell.step(f"retrained by one dispatch of two looks: {retraining(stage)}")


def look(stage: Stage, code: Exit) -> None:
    """A person looks at production; the report stays, as a workflow's does not.

    Where the look is to find drift (exit 6), the furthest feature is over the threshold; else it is not.
    """
    stage.git.run("checkout", "--quiet", "--detach", stage.git.fetch("main"))
    stage.loop("repro", stage.model)
    log = str(stage.clone.parent / "predictions")
    stage.tell.line(stage.loop("monitor", public(stage.model), "--log", log, code=code))
    report = ModelPaths(stage.clone, stage.model).build / "monitor" / "report.json"
    drift = read_json(report)["drift"]
    if (drift["score"] >= drift["threshold"]) != (code == Exit.DRIFT):
        raise LoopError(f"{report}: drift is {drift['score']}, its threshold {drift['threshold']}")


def daily(stage: Stage, meanwhile: Callable[[], object] = lambda: None) -> None:
    """What GitHub's timer starts once a day; `meanwhile` people go on."""
    before = stage.hub.runs("drift.yml")
    stage.hub.person.dispatch("drift.yml", {"model": public(stage.model)})
    meanwhile()
    stage.expect(stage.finished("drift.yml", before), "success")


def retraining(stage: Stage) -> str:
    """The commit on main that retrained for drift; an error where it is not one."""
    commit = stage.git.fetch("main")
    if (found := retrainings(stage.git, stage.model, commit)) != 1:
        raise LoopError(f"main has {found} retrainings for drift, should have 1")
    return stage.git.run("log", "-1", "--grep=^Action: retrain$", "--format=%h %s", commit)


def bad_canary(stage: Stage) -> None:
    """Chapter 6: a service that fails behind the gateway is rolled back by a commit, and barred."""

    def edit() -> None:
        service = stage.clone / "bentos" / stage.model / "asgi.py"
        service.write_text(spoilt(service.read_text()))

    proposal = stage.propose("numbered", "Number predictions as the gateway does", edit)
    stage.expect(stage.checked(proposal), "success")
    before = stage.hub.runs("release.yml")
    stage.hub.merge(proposal.number)
    stage.tell.step(f"#{proposal.number} merged; release.yml builds, rehearses, releases")
    stage.expect(stage.finished("release.yml", before), "success")
    served = stage.state().stable
    key = judged(stage)
    now = stage.state()
    if now.canary or now.stable != served or key not in {barred.key for barred in now.barred}:
        raise LoopError(f"{key} was not rolled back: production is {now}")
    stage.tell.step(
        f"rolled back by commit: production still serves {served.key if served else None}, {key} is barred"
    )
