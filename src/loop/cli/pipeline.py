"""Commands of the pipeline: run a stage, all of them, and change the data that they begin with."""

import shutil
import time
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from loop.core import actions
from loop.core.errors import LoopError, Rejected
from loop.core.names import package, public
from loop.core.paths import ModelPaths, root

# stage: the ModelPaths attribute of the table whose rows say how much work it was
STAGES = {
    "ingest": "raw",
    "validate": "raw",
    "features": "features",
    "train": "features",
    "evaluate": "scores",
}


@click.command()
@click.argument("name", metavar="STAGE", type=click.Choice(list(STAGES)))
@click.argument("model")
def stage(name: str, model: str) -> None:
    """Run one STAGE of MODEL, whether it is up to date or not; `dvc.yaml` calls this."""
    from loop.core import models, params
    from loop.pipeline import evaluate

    here, began = root(), time.monotonic()
    evaluate.check(models.load(here, model), params.load(here, model))  # before hours of stages, not after
    click.secho(f"{name} {package(model)} …", err=True, dim=True)
    import_module(f"loop.pipeline.{name}").main(here, model)
    rows, seconds = _rows(getattr(ModelPaths(here, model), STAGES[name])), time.monotonic() - began
    click.secho(f"{name} {package(model)}: {rows:,} rows in {seconds:.1f} s", err=True, dim=True)


@click.command()
@click.argument("models", metavar="[MODEL]...", nargs=-1)
@click.option("--check", is_flag=True, help="Reject what changed but was not committed, as CI does.")
def repro(models: tuple[str, ...], check: bool) -> None:
    """Bring every stage of each MODEL (default: all) up to date: `dvc repro`."""
    from loop.core import params

    here = root()
    wanted = models or sorted(params.read(here))
    current = _current(here, wanted)
    for model in wanted:
        _repro(here, model, current)
        if why := params.unshared(here, model):
            if check:
                raise Rejected(why, fix=params.SHARE)
            actions.warning("Source", f"{why}: {params.SHARE}")
        if check:
            _committed(here, model)


@click.command()
@click.argument("model")
def push(model: str) -> None:
    """Keep what MODEL's stages have made in the DVC remote, if the repository names one."""
    from loop.core import dvc

    kept = dvc.push(root(), model)
    click.echo(
        f"{public(model)}: {'kept in the DVC remote' if kept else 'there is no DVC remote to keep it in'}"
    )


@click.command()
@click.argument("models", metavar="[MODEL]...", nargs=-1)
def train(models: tuple[str, ...]) -> None:
    """Bring each MODEL (default: all) up to date and record it in MLflow: `repro`, then `register`."""
    from loop.candidate.register import register
    from loop.candidate.tracking import mlflow
    from loop.core import params

    here, failed = root(), []
    wanted = models or sorted(params.read(here))
    with ThreadPoolExecutor(1) as aside:
        asked = aside.submit(_current, here, wanted)
        mlflow()  # its import takes as long as DVC's answer
        current = asked.result()
    for model in wanted:
        try:
            _repro(here, model, current)
            registered = register(here, model)
        except LoopError as error:
            if len(wanted) == 1:
                raise
            click.secho(f"error: {error}", fg="red", err=True)
            failed.append(public(model))
        else:
            click.echo(f"registered {registered.name} version {registered.version}, run {registered.run_id}")
    if failed:
        raise LoopError(f"{len(failed)} of {len(wanted)} models failed: {', '.join(failed)}", fix="see above")


@click.command()
@click.argument("model")
@click.option(
    "--source", "sources", multiple=True, help="First set the source to this path or URL, or to several."
)
def pin(model: str, sources: tuple[str, ...]) -> None:
    """Write the SHA-256 of MODEL's source into params.yaml; ingest then takes no other bytes.

    Where MODEL also trains on what production logged, list the store's files anew and pin that list.
    """
    from loop.core import params
    from loop.pipeline import store
    from loop.pipeline.source import source_sha256

    here, key = root(), f"models.{package(model)}.ingest"
    section = _section(here, model).get("ingest") or {}
    source = sources or section.get("source", "simulator")
    places = [source] if isinstance(source, str) else [*source]
    logged = section.get("logged")
    changes: dict[str, Any] = {}
    if places != ["simulator"]:
        one = places[0] if len(places) == 1 else places
        changes |= {f"{key}.source": one, f"{key}.sha256": source_sha256(places, here)}
    elif not logged:
        raise LoopError(
            f"params.yaml: {key}.source is `simulator`: it is pinned by its params",
            fix=f"./loop pin {package(model)} --source PATH-OR-URL, to ingest a file",
        )
    if logged:
        wanted = params.parse(params.Logged, logged, f"params.yaml: {key}.logged")
        changes[f"{key}.logged.sha256"] = store.pin(here, model, wanted.store, wanted.until, anew=True)
    _change(here, changes)
    if why := params.unshared(here, model):
        actions.warning("Source", f"{why}: {params.SHARE}")


@click.command()
@click.argument("model")
@click.option("--until", required=True, metavar="ISO", help="Take what was known then (UTC).")
@click.option("--reason", required=True, help="Why; it goes into the commit.")
@click.option("--store", help="Where production logs, if not monitor.store: a folder or an s3:// prefix.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="What trains.")
@click.option("--days", type=click.IntRange(min=1), help="How many days the training window has.")
def retrain(  # noqa: PLR0917 — click passes by name
    model: str, until: str, reason: str, store: str | None, device: str | None, days: int | None
) -> None:
    """Point MODEL's params at what production has logged until an instant; the next `repro` retrains.

    Labels come `split.delay_days` late, so at UNTIL they are known of rows that are so much older: the
    test window ends there, at UNTIL less the delay, and the training window moves with it. A random split
    has no window. The store's files are listed in data/<package>/logged.json, once for an UNTIL: this
    training does not read what comes later.
    """
    from loop.core import params
    from loop.pipeline import store as stores

    here, name = root(), package(model)
    wanted = params.load(here, model)
    if days and not isinstance(wanted.split, params.TimeSplit):
        raise LoopError(
            f"--days is {days}, and params.yaml: models.{name}.split.kind is `{wanted.split.kind}`,"
            " which has no window",
            fix="leave it out",
        )
    store = store or wanted.monitor.store
    if not store:
        raise LoopError(
            f"params.yaml: models.{name}.monitor.store is null: nothing says where production logs",
            fix="set it, or pass --store",
        )
    instant = params.instant(until, "--until")
    sha256 = stores.pin(here, model, store, instant, anew=False)
    logged = {"store": store, "until": instant.isoformat(), "sha256": sha256}
    changes: dict[str, Any] = {"ingest.logged": logged}
    if isinstance(wanted.split, params.TimeSplit):
        changes["split.until"] = (instant - timedelta(days=wanted.split.delay_days)).isoformat()
    if device:
        changes["train.device"] = device
    if days:
        changes["split.train_days"] = days
    click.echo(f"retrain {name}: {reason}")
    _change(here, {f"models.{name}.{key}": value for key, value in changes.items()})


def _current(here: Path, models: Sequence[str]) -> Collection[str]:
    """Bring the stages' fingerprints up to date, and return the models of which no stage would run.

    For one model alone the answer is empty, because its own repro asks DVC anyway.
    """
    from loop.core import dvc
    from loop.pipeline import fingerprints

    fingerprints.write(here)
    return dvc.current(here, models) if len(models) > 1 else ()


def _repro(here: Path, model: str, current: Collection[str] = ()) -> None:
    """`dvc repro`; where it failed as validate stopped the data, that is a rejection, not bad input."""
    from loop.core import dvc, models, params

    recorded, wanted = dvc.Lock.of(here).params(model), params.load(here, model)
    models.check_params(here, model, wanted, recorded)  # before hours of stages, not after
    if params.pinned_here(here, wanted.ingest):
        from loop.pipeline import source  # here, as it imports Arrow

        source.check(wanted.ingest, package(model), here)
    report = ModelPaths(here, model).build / "validation"
    shutil.rmtree(report, ignore_errors=True)  # an earlier rejection's is none of this one
    try:
        dvc.repro(here, model, current=model in current)
    except dvc.DvcError as error:
        if not report.exists():
            raise
        raise Rejected(
            f"{package(model)}: validate stopped the data; nothing was trained\n"
            f"  report: {report / 'data_docs' / 'index.html'}",
            fix="what failed, on which rows, and what mends it stand above",
        ) from error


def _committed(here: Path, model: str) -> None:
    """Rejected where the stages' results are not those that Git has; a fork that never trained has none."""
    from loop.core.dvc import begin
    from loop.core.git import Git
    from loop.pipeline.fingerprints import FOLDER

    paths = ModelPaths(here, model)
    written = [paths.metrics, *([paths.logged] if paths.logged.is_file() else [])]
    files = ["dvc.lock", FOLDER, *(str(path.relative_to(here)) for path in written)]
    git = Git(here)
    if not git.run("log", "-1", "--format=%h", "--", "dvc.lock"):
        said = f"{public(model)}: no commit has a dvc.lock yet, so this training is compared with none."
        said += f" Nothing is released before one has: {begin(model)}"
        click.echo(said)
        actions.summary(said)
        return
    if git.run("status", "--porcelain", "--", *files):
        raise Rejected(
            f"{' or '.join(files)} is not what the params, the code and the data give:\n"
            + git.run("diff", "--unified=0", "HEAD", "--", *files)[:3000],
            fix=f"./loop repro {public(model)} && git add {' '.join(files)} && git commit {' '.join(files)}",
        )


def _rows(path: Path) -> int:
    import pyarrow.parquet as pq

    return int(pq.read_metadata(path).num_rows)


def _section(here: Path, model: str) -> dict[str, Any]:
    """A model's section as it is written, unchecked: `pin` mends one that lacks its hash."""
    from loop.core import params

    models, name = params.read(here), package(model)
    if name not in models:
        raise LoopError(f"params.yaml has no model {name!r}; it has {', '.join(sorted(models))}")
    return models[name] or {}


def _change(here: Path, changes: dict[str, Any]) -> None:
    """Set keys of params.yaml and print each that was something else."""
    from loop.core import params

    before = {"models": params.read(here)}
    new = {key: value for key, value in changes.items() if _get(before, key) != value}
    if not new:
        click.echo("params.yaml already says so")
        return
    params.edit(here, new)
    for key, value in new.items():
        click.echo(f"params.yaml: {key}: {_get(before, key)} → {value}")


def _get(node: Any, dotted: str) -> Any:
    for key in dotted.split("."):
        node = node.get(key) if isinstance(node, dict) else None
    return node
