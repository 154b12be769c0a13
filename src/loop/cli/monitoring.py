"""`loop monitor` and `loop judge`: what production says."""

import json
import signal
import sys
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from loop.core.git import Git
    from loop.monitoring.judge import Track
    from loop.monitoring.report import Findings


@click.command
@click.argument("model")
@click.option("--log", required=True, help="Folder or s3:// prefix with the prediction log's *.jsonl files.")
@click.option("--store", help="Folder or s3:// prefix of transactions/ and labels/. [default: monitor.store]")
@click.option(
    "--reference", type=click.Path(path_type=Path), help="[default: data/<package>/reference.parquet]"
)
@click.option("--until", metavar="ISO", help="The window's end, UTC. [default: the latest event]")
@click.option(
    "--environment",
    default="production",
    show_default=True,
    help="Whose stable release is measured by its labels.",
)
@click.option("--dispatch/--no-dispatch", default=False, help="Over a threshold, dispatch train.yml.")
@click.option("--out", type=click.Path(path_type=Path), help="[default: build/<package>/monitor]")
@click.option(
    "--push", metavar="URL", envvar="PUSHGATEWAY_URL", help="A Pushgateway to leave the metrics at."
)
@click.option(
    "--exit-code/--no-exit-code", default=True, help="Exit 6 over a threshold. [default: --exit-code]"
)
@click.option(
    "--clone/--no-clone", default=None, help="Read Git from a scratch clone. [default: in no work tree]"
)
def monitor(  # noqa: PLR0917 — click passes by name
    model: str,
    log: str,
    store: str | None,
    reference: Path | None,
    until: str | None,
    environment: str,
    dispatch: bool,
    out: Path | None,
    push: str | None,
    exit_code: bool,
    clone: bool | None,
) -> None:
    """Compare production with training; over a threshold, ask for a retraining (exit 6)."""
    from dataclasses import replace

    from loop.core import models, params, paths
    from loop.core.clone import opened
    from loop.core.errors import Exit, LoopError
    from loop.monitoring import report
    from loop.monitoring.monitor import look, read_reference, released

    root = paths.root()
    places = paths.ModelPaths(root, model)
    rows = read_reference(places, reference or places.reference, models.load_one(root, model, "schema").ROLES)
    failure = None
    with opened(root, clone=clone) as git:
        version = released(git, model, environment)
        end = params.instant(until, "--until") if until else None
        found = look(git, root, model, log, store=store, reference=rows, until=end, version=version)
        if dispatch and found.over:
            try:
                found = replace(found, dispatch=_ask(git, root, found))
            except LoopError as error:  # the report is written all the same
                failure = error
                found = replace(found, dispatch={"dispatched": False, "why": str(error)})
    folder = out or places.build / "monitor"
    report.write(folder, found, rows)
    _tell(found, folder)
    if push:
        _push(push, found.model, folder, root if dispatch else None)
    if failure:
        raise failure
    if found.over and exit_code:
        sys.exit(Exit.DRIFT)


def _ask(git: "Git", root: Path, found: "Findings") -> dict[str, object]:
    from loop.core.github import GitHub
    from loop.monitoring.dispatch import Wish, dispatch

    wish = Wish(found.model, found.window.end, found.reason)
    return dispatch(git, GitHub.of_environment(root), wish, found.rules, datetime.now(UTC))


def _push(url: str, model: str, folder: Path, root: Path | None) -> None:
    """Leave the metrics at a Pushgateway; with `root`, also when the token ends, if GitHub says so."""
    from loop.core.errors import LoopError
    from loop.core.github import GitHub
    from loop.monitoring.push import push, token_ends

    ends = None
    if root:
        with suppress(LoopError):  # no GitHub or no token: what was measured is pushed all the same
            ends = token_ends(GitHub.of_environment(root))
    push(url, model, folder / "metrics.prom", ends)


def _tell(found: "Findings", folder: Path) -> None:
    """Say it to the person and to the workflow."""
    from loop.core import actions
    from loop.core.markdown import inert

    shown = {
        "drift_score": "" if found.drift is None else f"{found.drift:.4f}",
        "verdict": found.verdict,
        "dispatched": json.dumps(found.dispatch["dispatched"]),
    }
    actions.output(**shown)
    good = f"{found.quality.score:.4f}" if found.quality else "unknown"
    live = "".join(f"{name} {value:.4g}, " for name, value in found.live.metrics.items())
    numbers = f"drift {shown['drift_score'] or 'unknown'}, quality {good}"
    labels = f"{live}of {found.live.labelled} labels, {found.window.unlabelled} without a label yet"
    rows = f"{found.window.predictions} predictions from {found.window.start} to {found.window.end}"
    lines = [
        f"{found.model}: {found.verdict}",
        f"{numbers}, {rows}",
        labels,
        *found.over,
        *found.alarms,
        *found.unknown,
        *found.window.apart,
    ]
    if found.window.broken:
        lines.append(f"{found.window.broken} broken log lines skipped")
    if found.window.repeated:
        lines.append(f"{found.window.repeated} labelled predictions repeat an id: its first one counts")
    if found.over:
        lines.append(" ".join(["dispatch:", found.dispatch["why"], found.dispatch.get("url", "")]).rstrip())
    lines.append(f"report: {folder / 'report.html'}")
    actions.summary("\n".join([f"### Monitor: {lines[0]}", *(f"- {inert(line)}" for line in lines[1:])]))
    click.echo("\n".join(lines))


@click.command
@click.argument("model")
@click.option("--stable", required=True, help="URL of the stable track.")
@click.option("--canary", required=True, help="URL of the canary track.")
@click.option(
    "--prometheus", metavar="URL", help="Read metrics there, of all pods. [default: the tracks' /metrics]"
)
@click.option("--namespace", help="Where Prometheus sees the pods. [default: <model>-<environment>]")
@click.option("--environment", default="production", show_default=True)
@click.option("--dispatch/--no-dispatch", default=False, help="Dispatch promote.yml and rollback.yml.")
@click.option("--once", is_flag=True, help="One look; without Prometheus, at all since the servers began.")
@click.option("--every", type=float, default=5.0, show_default=True, help="Seconds between looks.")
@click.option("--deadline", type=float, help="Seconds after which to give up with exit 4. [default: never]")
@click.option("--forever", is_flag=True, help="Outlive outages and the canary, as a Deployment is to.")
@click.option("--alive", type=click.Path(path_type=Path), help="A file to touch at every look.")
@click.option(
    "--clone/--no-clone", default=None, help="Read Git from a scratch clone. [default: in no work tree]"
)
def judge(  # noqa: PLR0917 — click passes by name
    model: str,
    stable: str,
    canary: str,
    prometheus: str | None,
    namespace: str | None,
    environment: str,
    dispatch: bool,
    once: bool,
    every: float,
    deadline: float | None,
    forever: bool,
    alive: Path | None,
    clone: bool | None,
) -> None:
    """Watch a canary until it is promoted or rolled back; a line for each look that finds something new."""
    from functools import cache, partial

    from loop.core import actions, params, paths
    from loop.core.clone import opened
    from loop.core.github import GitHub
    from loop.core.names import public
    from loop.delivery.commit import Place
    from loop.monitoring.judge import Judge
    from loop.monitoring.watch import watch

    root = paths.root()
    rules, place = params.load(root, model).canary, Place(model, environment)
    where = (prometheus, namespace or f"{public(model)}-{environment}") if prometheus else None
    tracks = [_track(name, url, where, once) for name, url in (("stable", stable), ("canary", canary))]
    github = partial(GitHub.of_environment, root) if dispatch else None
    if forever:  # as process 1 of a container, which no signal ends that it does not handle
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with ExitStack() as stack:

        @cache  # of what succeeded: while origin is away, the next look tries again
        def watcher() -> Judge:
            git = stack.enter_context(opened(root, clone=clone))
            return Judge(git, place, rules, tracks[0], tracks[1], github=github)

        if once:
            look = watcher().look()
            click.echo(look.line)
        else:
            look = watch(lambda: watcher().look(), every, forever=forever, deadline=deadline, alive=alive)
    actions.output(verdict=look.what or "over", dispatched=json.dumps(look.dispatched))


def _track(name: str, url: str, where: tuple[str, str] | None, once: bool) -> "Track":
    """A track whose metrics are Prometheus' at (URL, namespace), or its own /metrics."""
    from loop.monitoring.judge import Track
    from loop.monitoring.prometheus import Prometheus
    from loop.monitoring.sample import Scrape

    url = url.rstrip("/")
    if where:
        return Track(url, Prometheus(where[0].rstrip("/"), where[1], name))
    return Track(url, Scrape(url, from_start=once))
