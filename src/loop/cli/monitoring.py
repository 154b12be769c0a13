"""`loop monitor` and `loop judge`: what production says."""

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from loop.monitoring.report import Findings


@click.command
@click.argument("model")
@click.option("--log", required=True, help="Folder or s3:// prefix with the prediction log's *.jsonl files.")
@click.option("--store", help="Folder or s3:// prefix of transactions/ and labels/. [default: monitor.store]")
@click.option(
    "--reference", type=click.Path(path_type=Path), help="[default: data/<package>/reference.parquet]"
)
@click.option("--until", type=click.DateTime(), help="The window's end, UTC. [default: the latest event]")
@click.option(
    "--environment", default="production", show_default=True, help="Whose stable release accuracy is judged."
)
@click.option("--dispatch/--no-dispatch", default=False, help="Over a threshold, dispatch train.yml.")
@click.option("--out", type=click.Path(path_type=Path), help="[default: build/<package>/monitor]")
def monitor(  # noqa: PLR0917 — click passes by name
    model: str,
    log: str,
    store: str | None,
    reference: Path | None,
    until: datetime | None,
    environment: str,
    dispatch: bool,
    out: Path | None,
) -> None:
    """Compare production with training; over a threshold, ask for a retraining (exit 6)."""
    from dataclasses import replace

    from loop.core import models, paths
    from loop.core.errors import Exit, LoopError
    from loop.monitoring import report
    from loop.monitoring.monitor import look, read_reference, released

    root = paths.root()
    places = paths.ModelPaths(root, model)
    rows = read_reference(places, reference or places.reference, models.load(root, model).roles)
    version = released(places, environment)
    found = look(root, model, log, store=store, reference=rows, until=until, version=version)
    failure = None
    if dispatch and found.over:
        try:
            found = replace(found, dispatch=_ask(root, found))
        except LoopError as error:  # the report is written all the same
            failure = error
            found = replace(found, dispatch={"dispatched": False, "why": str(error)})
    folder = out or places.build / "monitor"
    report.write(folder, found, rows)
    _tell(found, folder)
    if failure:
        raise failure
    if found.over:
        sys.exit(Exit.DRIFT)


def _ask(root: Path, found: "Findings") -> dict[str, object]:
    from loop.core.github import GitHub
    from loop.monitoring.dispatch import Wish, dispatch

    wish = Wish(found.model, found.window.end, found.reason)
    cooldown = timedelta(hours=found.rules.cooldown_hours)
    return dispatch(root, GitHub.of_environment(), wish, cooldown, datetime.now(UTC))


def _tell(found: "Findings", folder: Path) -> None:
    """Say it to the person and to the workflow."""
    from loop.core import actions

    shown = {
        "drift_score": "" if found.drift is None else f"{found.drift:.4f}",
        "accuracy": "" if found.accuracy.accuracy is None else f"{found.accuracy.accuracy:.4f}",
        "verdict": found.verdict,
        "dispatched": json.dumps(found.dispatch["dispatched"]),
    }
    actions.output(**shown)
    numbers = f"drift {shown['drift_score'] or 'unknown'}, accuracy {shown['accuracy'] or 'unknown'}"
    rows = f"{len(found.window.rows)} predictions from {found.window.start} to {found.window.end}"
    lines = [f"{found.model}: {found.verdict}", f"{numbers}, {rows}", *found.over, *found.unknown]
    if found.window.broken:
        lines.append(f"{found.window.broken} broken log lines skipped")
    if found.over:
        lines.append(f"dispatch: {found.dispatch['why']}")
    lines.append(f"report: {folder / 'report.html'}")
    actions.summary("\n".join([f"### Monitor: {lines[0]}", *(f"- {line}" for line in lines[1:])]))
    click.echo("\n".join(lines))


@click.command
@click.argument("model")
@click.option("--stable", required=True, help="URL of the stable track.")
@click.option("--canary", required=True, help="URL of the canary track.")
@click.option("--environment", default="production", show_default=True)
@click.option("--dispatch/--no-dispatch", default=False, help="Dispatch promote.yml and rollback.yml.")
@click.option("--once", is_flag=True, help="One look, at all that was counted since the servers began.")
@click.option("--every", type=float, default=5.0, show_default=True, help="Seconds between looks.")
@click.option("--deadline", type=float, help="Seconds after which to give up with exit 4. [default: never]")
def judge(  # noqa: PLR0917 — click passes by name
    model: str,
    stable: str,
    canary: str,
    environment: str,
    dispatch: bool,
    once: bool,
    every: float,
    deadline: float | None,
) -> None:
    """Watch a canary until it is promoted or rolled back; one line a look."""
    import time

    from loop.core import actions, params, paths
    from loop.core.errors import Rejected
    from loop.core.git import Git
    from loop.core.github import GitHub
    from loop.delivery.commit import Place
    from loop.monitoring.judge import Judge, Track

    root = paths.root()
    rules, github = params.load(root, model).canary, GitHub.of_environment() if dispatch else None
    tracks, place = (Track.scraped(stable), Track.scraped(canary)), Place(model, environment)
    watch = Judge(Git(root), place, rules, *tracks, github=github, since_start=once)
    ends = time.monotonic() + deadline if deadline else float("inf")
    while not (look := watch.look()).over:
        click.echo(look.line)
        if once:
            break
        if time.monotonic() + every > ends:
            raise Rejected(f"after {deadline:g} s: {look.line}")
        time.sleep(every)
    else:
        click.echo(look.line)
    actions.output(verdict=look.what or "over", dispatched=json.dumps(look.dispatched))
