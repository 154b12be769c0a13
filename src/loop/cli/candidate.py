"""The commands by which CI judges a candidate: `loop changed, status, gate, register, score, comment`."""

import json
from pathlib import Path
from typing import Any

import click

from loop.cli.arguments import environment_option, model_argument, optional_model
from loop.cli.printing import Printing, show
from loop.core.errors import Exit
from loop.core.project import Project
from loop.core.results import Gate, Status, of

PARQUET = click.Path(path_type=Path, dir_okay=False)


@click.command
@click.option(
    "--base", required=True, metavar="COMMIT", help="Commit to compare with; zeros mean a new branch."
)
@click.option(
    "--head", default="HEAD", show_default=True, metavar="COMMIT", help="Commit that has the change."
)
@click.option(
    "--parts",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="How many jobs share the tests where all of them run.",
)
def changed(base: str, head: str, parts: int) -> None:
    """List the tests and models that a change can break.

    CI calls it first and runs only those. Step outputs: tests and models as JSON lists, and `manifests`,
    which is true if the manifests have to be checked.
    """
    from loop.candidate import change
    from loop.core import actions, paths

    found = change.changed(paths.root(), base, head)
    jobs, models = json.dumps(found.jobs(parts)), json.dumps(found.models)
    actions.output(tests=jobs, models=models, manifests=_yes(found.manifests))
    said = f"tests: {', '.join(found.tests) or 'none'}; models: {', '.join(found.models) or 'none'}"
    click.echo(f"{said}; manifests: {_yes(found.manifests)}")


@click.command(cls=Printing, result=Status)
@model_argument
@environment_option(default="production", show_default=True, help="Environment to compare with.")
def status(model: str, environment: str) -> None:
    """Show whether this work tree has a release to bring.

    It computes the key of the release that this work tree would make, and compares it with the releases that
    an environment serves and with those that are blocked there. Step outputs: key, released, `barred` (which
    means blocked), due.
    """
    from loop.candidate.champion import state
    from loop.core import actions, paths, plain
    from loop.core.dvc import begin
    from loop.packaging.key import release_key

    project = Project(paths.root(), model)
    # an unknown model is an error, not one that was never trained
    plain.section(plain.read(project.root), model)
    if not project.lock.records(model):
        actions.output(key="", released="false", barred="false", due="false")
        said = f"{environment}: nothing to release, as dvc.lock records no training of {project.public}"
        said += f"; to begin: {begin(model)}"
        actions.summary(said)
        never = Status(project.public, environment, None, released=False, blocked=False, due=False)
        show(never, lambda: click.echo(said))
        return
    key = release_key(project, device=plain.device(project, environment))
    served = state(project, environment)
    released = any(track is not None and track.key == key for track in (served.stable, served.canary))
    barred = served.why_barred(key) is not None
    due = not released and not barred
    actions.output(key=key, released=_yes(released), barred=_yes(barred), due=_yes(due))
    line = f"{environment}: release {key}; released: {_yes(released)}; blocked: {_yes(barred)}"
    found = Status(project.public, environment, key, released=released, blocked=barred, due=due)
    show(found, lambda: click.echo(line))


@click.command(cls=Printing, result=Gate)
@model_argument
@click.option("--ci", is_flag=True, help="End with 0 for `keep` too; a workflow reads the output `verdict`.")
def gate(model: str, ci: bool) -> Exit:
    """Decide whether the candidate may replace the champion.

    The candidate is what `repro` has trained in this work tree; the champion is what production serves. The
    verdict is promote (exit code 0), keep (3) or block (4), with the reasons. Step output: verdict.
    """
    from loop.candidate import gate
    from loop.core import actions, paths

    answer = gate.gate(Project(paths.root(), model))
    actions.output(verdict=answer["verdict"])
    show(of(Gate, answer), lambda: _table(answer))
    keep = Exit.OK if ci else Exit.KEEP
    return {"promote": Exit.OK, "keep": keep, "block": Exit.BLOCK}[answer["verdict"]]


@click.command
@model_argument
def register(model: str) -> None:
    """Enter the candidate in MLflow's model registry.

    It enters the champion too if the registry does not have it. Step outputs: version, run_id.
    """
    from loop.candidate import register
    from loop.core import actions, paths

    entered = register.register(Project(paths.root(), model))
    actions.output(version=entered.version, run_id=entered.run_id)
    click.echo(f"{entered.name}/{entered.version}: run {entered.run_id}, experiment {entered.experiment}")


@click.command
@model_argument
@click.option("--raw", type=PARQUET, required=True, help="Parquet file with the columns of schema.py.")
@click.option("--ids", type=PARQUET, required=True, help="Parquet file with the ids of the rows to score.")
@click.option("--out", type=PARQUET, required=True, help="Parquet file to write the scores to.")
def score(model: str, raw: Path, ids: Path, out: Path) -> None:
    """Score rows with the code and the model of this work tree.

    The gate calls it in the champion's commit, so that both models score the same rows. It computes the
    features from the raw rows.
    """
    from loop.candidate import score
    from loop.core import paths

    score.score(Project(paths.root(), model), raw, ids, out)


@click.command
@optional_model
def comment(model: str | None) -> None:
    """Write the report of a pull request, for `post-reports`.

    The report also goes into the summary of the job. With MODEL it compares the candidate with the champion.
    Without MODEL it says what the pull request changes in the cluster and in the locks. Step output: report,
    the file.
    """
    from loop.core import actions, paths
    from loop.review import comment

    path, text = comment.comment(paths.root(), model)
    actions.output(report=path)
    click.echo(text)


def _yes(value: bool) -> str:
    return "true" if value else "false"


def _table(answer: dict[str, Any]) -> None:
    """Print each metric of both models, then the verdict and its reasons."""
    from rich.console import Console
    from rich.table import Table

    champion = answer["champion"] or {"key": "none", "metrics": {}}
    table = Table("metric", "challenger", f"champion {champion['key']}")
    for name, value in answer["challenger"]["metrics"].items():
        if isinstance(value, int | float):
            theirs = champion["metrics"].get(name)
            table.add_row(name, f"{value:.4g}", "-" if theirs is None else f"{theirs:.4g}")
    console = Console()
    console.print(table)
    console.print(f"[bold]{answer['verdict']}[/bold]")
    for reason in answer["reasons"]:
        console.print(f"- {reason}", markup=False, highlight=False, soft_wrap=True)
