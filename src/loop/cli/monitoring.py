"""The commands that watch production, and the site about it: `loop monitor, judge, report`."""

import json
import signal
import sys
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from loop.cli.arguments import PATH, environment_option, models_argument, project_argument
from loop.cli.printing import Printing, show
from loop.core import actions, paths
from loop.core.errors import Exit, LoopError
from loop.core.project import Project

if TYPE_CHECKING:
    from loop.monitoring.report import Findings


@click.command(cls=Printing)
@project_argument
@click.option(
    "--log",
    required=True,
    metavar="PLACE",
    help="Folder or s3:// prefix with the prediction log's *.jsonl files.",
)
@click.option(
    "--store",
    metavar="PLACE",
    help="Folder or s3:// prefix with transactions/ and labels/.  [default: monitor.store in params.yaml]",
)
@click.option(
    "--reference",
    type=PATH,
    help="Training rows to compare with.  [default: data/<package>/reference.parquet]",
)
@click.option("--until", metavar="ISO", help="End of the window, UTC.  [default: the latest event]")
@environment_option(
    default="production",
    show_default=True,
    help="Environment whose stable release is measured by its labels.",
)
@click.option("--dispatch", is_flag=True, help="Start train.yml if a retraining is due.")
@click.option("--out", type=PATH, help="Folder to write.  [default: build/<package>/monitor]")
@click.option("--push", metavar="URL", envvar="PUSHGATEWAY_URL", help="Pushgateway to send the metrics to.")
@click.option("--no-exit-code", is_flag=True, help="End with 0, not 6, if a retraining is due.")
def monitor(  # noqa: PLR0917 — click passes by name
    project: Project,
    log: str,
    store: str | None,
    reference: Path | None,
    until: str | None,
    environment: str,
    dispatch: bool,
    out: Path | None,
    push: str | None,
    no_exit_code: bool,
) -> None:
    """Compare production with training.

    It measures drift, data quality, and the metrics of predictions whose labels have come. The verdict is
    healthy, undecided (too few rows or labels) or retrain, for which the command ends with 6. It writes
    report.html, report.json and metrics.prom. Step outputs: verdict, drift_score, dispatched.

    \b
      ./loop monitor churn --log s3://acme/log
    """  # noqa: D301
    from loop.core import params
    from loop.core.github import GitHub, opened
    from loop.monitoring import dispatch as retraining
    from loop.monitoring import push as pushing
    from loop.monitoring import report
    from loop.monitoring.monitor import look, read_reference, released

    rows = read_reference(project, reference or project.reference)
    failure = None
    with opened(project.root) as git:
        version = released(git, project.model, environment)
        end = params.instant(until, "--until") if until else None
        found = look(git, project, log, store=store, reference=rows, until=end, version=version)
        if dispatch and found.over:
            try:
                wish = retraining.Wish(found.model, found.window.end, found.reason)
                github = GitHub.of_environment(project.root)
                asked = retraining.dispatch(git, github, wish, found.rules, datetime.now(UTC))
                found = replace(found, dispatch=asked)
            except LoopError as error:  # the report is written all the same
                failure = error
                found = replace(found, dispatch=retraining.answer(dispatched=False, why=str(error)))
    if dispatch and push:
        with suppress(LoopError):  # without GitHub or a token, the metrics are sent all the same
            found = replace(found, token_ends=pushing.token_ends(GitHub.of_environment(project.root)))
    folder = out or project.build / "monitor"
    report.write(folder, found, rows)
    lines = _tell(found, folder)
    show(found.plain() | {"folder": str(folder)}, lambda: click.echo("\n".join(lines)))
    if push:
        pushing.push(push, found.model, folder / "metrics.prom")
    if failure:
        raise failure
    if found.over and not no_exit_code:
        sys.exit(Exit.DRIFT)


def _tell(found: "Findings", folder: Path) -> list[str]:
    """Set what was found as outputs and summary of the workflow's step; the lines to print for a person."""
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
    lines = [f"{found.model}: {found.verdict}", f"{numbers}, {rows}", labels]
    lines += [*found.over, *found.alarms, *found.unknown, *found.window.apart]
    if found.window.broken:
        lines.append(f"{found.window.broken} broken log lines skipped")
    if found.window.repeated:
        lines.append(f"{found.window.repeated} labelled predictions repeat an id; only the first one counts")
    if found.over:
        lines.append(" ".join(["dispatch:", found.dispatch["why"], found.dispatch["url"]]).rstrip())
    lines.append(f"report: {folder / 'report.html'}")
    actions.summary("\n".join([f"### Monitor: {lines[0]}", *(f"- {inert(line)}" for line in lines[1:])]))
    return lines


@click.command
@project_argument
@click.option("--stable", required=True, metavar="URL", help="URL of the stable track.")
@click.option("--canary", required=True, metavar="URL", help="URL of the canary track.")
@click.option(
    "--prometheus",
    metavar="URL",
    help="Prometheus that has the metrics of all pods.  [default: /metrics of the two URLs]",
)
@environment_option(default="production", show_default=True, help="Environment that has the canary.")
@click.option("--dispatch", is_flag=True, help="Act on the verdict by starting promote.yml or rollback.yml.")
@click.option(
    "--once",
    is_flag=True,
    help="Check once, then end. Without Prometheus, this counts every request since the servers started.",
)
@click.option("--every", type=float, default=5.0, show_default=True, help="Seconds between two checks.")
@click.option(
    "--forever", is_flag=True, help="Go on after errors, and after the canary has ended. For a Deployment."
)
@click.option("--alive", type=PATH, help="File to touch at every check.")
def judge(  # noqa: PLR0917 — click passes by name
    project: Project,
    stable: str,
    canary: str,
    prometheus: str | None,
    environment: str,
    dispatch: bool,
    once: bool,
    every: float,
    forever: bool,
    alive: Path | None,
) -> None:
    """Watch a canary until it is promoted or rolled back.

    It compares the canary's failures, latency and scores with those of stable, and prints a line whenever
    something has changed. In a cluster it runs as a Deployment beside the canary. Without --dispatch it only
    prints what it would do. Step outputs: verdict, dispatched.
    """
    from loop.core.github import GitHub, opened
    from loop.delivery.commit import Place
    from loop.monitoring.judge import Judge, Track, watch
    from loop.monitoring.prometheus import Prometheus
    from loop.monitoring.sample import Scrape

    def track(name: str, url: str) -> Track:
        if prometheus:
            namespace = f"{project.public}-{environment}"
            return Track(url, Prometheus(prometheus.rstrip("/"), namespace, name))
        return Track(url, Scrape(url, from_start=once))

    rules, place = project.params.canary, Place(project.model, environment)
    tracks = track("stable", stable.rstrip("/")), track("canary", canary.rstrip("/"))
    github = partial(GitHub.of_environment, project.root) if dispatch else None
    if forever:  # as process 1 of a container, which ignores a signal that it does not handle
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with ExitStack() as stack:

        @cache  # an error is not cached, so the next check asks origin again
        def watcher() -> Judge:
            git = stack.enter_context(opened(project.root))
            return Judge(git, place, rules, *tracks, github=github)

        if once:
            look = watcher().look()
            click.echo(look.line)
        else:
            look = watch(lambda: watcher().look(), every, forever=forever, alive=alive)
    actions.output(verdict=look.what or "over", dispatched=json.dumps(look.dispatched))


@click.command
@models_argument
def report(models: tuple[str, ...]) -> None:
    """Write static pages about every model.

    They show metrics, plots, data checks, the monitor's last report and the releases, and need no server.
    Without MODEL they are about every model of params.yaml. They are in build/report.
    """
    from loop.report.site import build

    click.echo(f"{build(paths.root(), models)}: open it in a browser")
