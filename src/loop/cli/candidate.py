"""What CI asks about a candidate: `loop changed, status, gate, register, score, comment`."""

import json
from pathlib import Path
from typing import Any

import click

PARQUET = click.Path(path_type=Path, dir_okay=False)


@click.command
@click.option("--base", required=True, help="Commit to compare with; zeros for a new branch.")
@click.option("--head", default="HEAD", show_default=True)
@click.option(
    "--parts",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Jobs that share the whole suite.",
)
def changed(base: str, head: str, parts: int) -> None:
    """Say what commits can break: which tests, which models, and whether manifests."""
    from loop.candidate import change
    from loop.core import actions, paths

    found = change.changed(paths.root(), base, head)
    jobs, models = json.dumps(found.jobs(parts)), json.dumps(found.models)
    actions.output(tests=jobs, models=models, manifests=_yes(found.manifests))
    said = f"tests: {', '.join(found.tests) or 'none'}; models: {', '.join(found.models) or 'none'}"
    click.echo(f"{said}; manifests: {_yes(found.manifests)}")


@click.command
@click.argument("model")
@click.option("--environment", default="production", show_default=True)
def status(model: str, environment: str) -> None:
    """Say whether an environment has, or bars, the release that this work tree would make."""
    from loop.candidate.champion import state
    from loop.core import actions, paths, plain
    from loop.core.dvc import Lock, begin
    from loop.core.names import public
    from loop.packaging.key import release_key

    root = paths.root()
    plain.section(plain.read(root), model)  # an unknown model is an error, not one that was never trained
    lock = Lock.of(root)
    if not lock.records(model):
        none = {"key": "", "released": "false", "barred": "false", "due": "false"}
        actions.output(**none)
        said = f"{environment}: nothing to release, as dvc.lock records no training of {public(model)}"
        said += f"; to begin: {begin(model)}"
        click.echo(said)
        actions.summary(said)
        return
    key = release_key(root, model, lock, device=plain.device(root, model, environment))
    spec = state(root, model, environment)
    tracks = [spec.get(track) or {} for track in ("stable", "canary")]
    released = any(track.get("key") == key for track in tracks)
    barred = any(entry["key"] == key for entry in spec.get("barred") or [])
    facts = {"released": _yes(released), "barred": _yes(barred), "due": _yes(not released and not barred)}
    actions.output(key=key, **facts)
    click.echo(f"{environment}: release {key}; released: {_yes(released)}; barred: {_yes(barred)}")


@click.command
@click.argument("model")
@click.option("--ci", is_flag=True, help="`keep` ends in 0; a workflow reads the output `verdict`.")
def gate(model: str, ci: bool) -> int:
    """Judge the candidate against floors and champion: promote (0), keep (3) or block (4)."""
    from loop.candidate.gate import gate as judge
    from loop.core import actions, paths
    from loop.core.errors import Exit

    answer = judge(paths.root(), model)
    actions.output(verdict=answer["verdict"])
    _show(answer)
    keep = Exit.OK if ci else Exit.KEEP
    return int({"promote": Exit.OK, "keep": keep, "block": Exit.BLOCK}[answer["verdict"]])


@click.command
@click.argument("model")
def register(model: str) -> None:
    """Enter the candidate, and the champion where it is missing, in MLflow."""
    from loop.candidate.register import register as enter
    from loop.core import actions, paths

    entered = enter(paths.root(), model)
    actions.output(version=entered.version, run_id=entered.run_id)
    click.echo(f"{entered.name}/{entered.version}: run {entered.run_id}, experiment {entered.experiment}")


@click.command
@click.argument("model")
@click.option("--raw", type=PARQUET, required=True, help="Transactions with the columns of the schema.")
@click.option("--ids", type=PARQUET, required=True, help="The rows to score: a file with the id column.")
@click.option("--out", type=PARQUET, required=True)
def score(model: str, raw: Path, ids: Path, out: Path) -> None:
    """Score rows by this work tree's code and model, features included."""
    from loop.candidate.score import score as score_rows
    from loop.core import paths

    score_rows(paths.root(), model, raw, ids, out)


@click.command
@click.argument("model", required=False)
def comment(model: str | None) -> None:
    """Report on the candidate: in the job's summary, and in a file that `post-reports` makes a comment of.

    Without MODEL, on a change that no model has a part in: what it does to the cluster and to the locks.
    """
    from loop.core import actions, paths
    from loop.review.comment import comment as report

    path, text = report(paths.root(), model)
    actions.output(report=path)
    click.echo(text)


def _yes(value: bool) -> str:
    return "true" if value else "false"


def _show(answer: dict[str, Any]) -> None:
    """The verdict as a table: every number both have, then why."""
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
