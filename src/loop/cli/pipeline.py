"""The commands that run the pipeline, or change the data that it starts from."""

import json
import shutil
import time
from collections.abc import Collection, Sequence
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from loop.cli.arguments import models_argument, optional_model, project_argument, reason_option
from loop.core import actions
from loop.core.errors import LoopError, Rejected
from loop.core.git import Git
from loop.core.names import public
from loop.core.paths import root
from loop.core.project import Project


@click.command()
@click.argument("name", metavar="STAGE")
@project_argument
def stage(name: str, project: Project) -> None:
    """Run one stage of a model, even if it is up to date.

    dvc.yaml calls it. To run only the stages that are out of date, use `repro`.
    """
    import pyarrow.parquet as pq

    from loop.core import dvc
    from loop.pipeline import evaluate

    if name not in (known := dvc.ours(project.root)):
        raise LoopError(f"no stage {name}; dvc.yaml has {', '.join(known)}")
    began = time.monotonic()
    # A wrong metric or slice in params.yaml is reported now instead of by `evaluate`, maybe hours later.
    evaluate.check(project.folder, project.params)
    if name == "train":
        made = pq.read_schema(project.features).empty_table()
        evaluate.check_slices(project.folder, made, project.params.evaluate)
    click.secho(f"{name} {project.package} …", err=True, dim=True)
    rows = import_module(f"loop.pipeline.{name}").main(project)
    seconds = time.monotonic() - began
    click.secho(f"{name} {project.package}: {rows:,} rows in {seconds:.1f} s", err=True, dim=True)


@click.command()
@models_argument
@click.option("--check", is_flag=True, help="End with 4 if the results are not those in Git, as CI does.")
def repro(models: tuple[str, ...], check: bool) -> None:
    """Run the stages that are out of date.

    A stage is out of date if its code, its params or its data have changed since dvc.lock was written.
    Without MODEL it runs those of every model. Commit dvc.lock, data/ and .loop/ afterwards.

    \b
      ./loop repro churn
    """  # noqa: D301
    from loop.core import params

    here = root()
    wanted = models or sorted(params.read(here))
    current = _current(here, wanted)
    for model in wanted:
        _repro(here, model, current)
        if found := params.unshared(Project(here, model)):
            if check:
                raise Rejected(found[0], fix=found[1])
            actions.warning("Source", ": ".join(found))
        if check:
            _committed(here, model)


@click.command()
@optional_model
@click.option(
    "--logged", is_flag=True, help="Only models whose production is logged: those with monitor.store."
)
@click.option(
    "--trained", metavar="COMMIT", help="Only models whose training the dvc.lock of this commit records."
)
def models(model: str | None, logged: bool, trained: str | None) -> None:
    """List the models of params.yaml.

    Workflows start a job for each of them. With MODEL it lists this one, and fails if there is no such model.
    With --trained it also says which models it leaves out, and how to train them.
    Step outputs: models, and releases, which has one entry for each release of a model: its device and the
    environments that it goes to. A model has several if `serve.device` differs between environments.
    """
    from loop.core import params, plain
    from loop.core.dvc import LOCK, Lock, begin

    here = root()
    names = [model] if model else sorted(params.read(here))
    projects = {public(name): Project(here, name) for name in names}
    # `params` is read first, so that an invalid section is an error for every model
    listed = [name for name, each in projects.items() if each.params.monitor.store or model or not logged]
    if trained:
        lock = Lock.parse(Git(here).read(trained, LOCK) or "", f"{LOCK} of {trained[:12]}")
        for name in [name for name in listed if not lock.records(name)]:
            listed.remove(name)
            said = f"{name}: nothing to release, as dvc.lock records no training of it; to begin: "
            said += begin(name)
            click.echo(said, err=True)
            actions.summary(said)
    click.echo("\n".join(listed))
    releases = [
        {"model": name, "device": device, "environments": " ".join(environments)}
        for name in listed
        for device, environments in plain.by_device(projects[name]).items()
    ]
    actions.output(models=json.dumps(listed), releases=json.dumps(releases))


@click.command()
@project_argument
def push(project: Project) -> None:
    """Copy the outputs of a model's stages to the DVC remote.

    Other machines then fetch them instead of training again. Without a DVC remote it does nothing.
    """
    from loop.core import dvc

    kept = dvc.push(project)
    click.echo(f"{project.public}: {'copied to the DVC remote' if kept else 'there is no DVC remote'}")


@click.command()
@models_argument
def train(models: tuple[str, ...]) -> None:
    """Train a model and enter it in MLflow's model registry.

    It runs `repro`, then `register`. Without MODEL it does so for every model; one that fails does not stop
    the others.
    """
    from loop.candidate.register import register
    from loop.core import params

    here, failed = root(), []
    wanted = models or sorted(params.read(here))
    current = _current(here, wanted)
    for model in wanted:
        try:
            _repro(here, model, current)
            registered = register(Project(here, model))
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
@project_argument
@click.option(
    "--source",
    "sources",
    multiple=True,
    metavar="PLACE",
    help="First set the source to this path or URL; may be given several times.",
)
def pin(project: Project, sources: tuple[str, ...]) -> None:
    """Pin the bytes of a model's source in params.yaml.

    Use it for a new source, and whenever the source has changed. It writes the SHA-256 into params.yaml, and
    `ingest` then refuses any other bytes. It does not pin files that `ingest` cannot read. If the model also
    trains on what production has logged, it lists the files of that store again and pins the list.

    \b
      ./loop pin churn --source s3://acme/churn.parquet
    """  # noqa: D301
    from loop.core import params, plain
    from loop.core.models import load_one
    from loop.pipeline import store
    from loop.pipeline.source import source_sha256

    here, key = project.root, f"models.{project.package}.ingest"
    # unchecked, because a check would want the hash that is written here
    section = plain.section(plain.read(here), project.model)
    source = sources or plain.at(section, "ingest.source") or "simulator"
    places = [*map(str, source)] if isinstance(source, list | tuple) else [str(source)]
    logged = plain.at(section, "ingest.logged")
    changes: dict[str, Any] = {}
    if places != ["simulator"]:
        one = places[0] if len(places) == 1 else places
        own = load_one(here, project.model, "source", runs=False)
        sha256 = source_sha256(places, here, tables=not hasattr(own, "read"))
        changes |= {f"{key}.source": one, f"{key}.sha256": sha256}
    elif not logged:
        raise LoopError(
            f"params.yaml: {key}.source is `simulator`: it is pinned by its params",
            fix=f"./loop pin {project.package} --source PATH-OR-URL, to ingest a file",
        )
    if logged:
        wanted = params.parse(params.Logged, logged, f"params.yaml: {key}.logged")
        changes[f"{key}.logged.sha256"] = store.pin(project, wanted.store, wanted.until, anew=True)
    _change(here, changes)
    if found := params.unshared(Project(here, project.model)):
        actions.warning("Source", ": ".join(found))


@click.command()
@project_argument
@click.option("--until", required=True, metavar="ISO", help="Use what was known at this time, UTC.")
@reason_option
@click.option(
    "--store",
    metavar="PLACE",
    help="Folder or s3:// prefix of what production logs.  [default: monitor.store]",
)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="Device to train on.")
@click.option("--days", type=click.IntRange(min=1), help="Length of the training window in days.")
def retrain(  # noqa: PLR0917 — click passes by name
    project: Project, until: str, reason: str, store: str | None, device: str | None, days: int | None
) -> None:
    """Set params.yaml to train on what production has logged.

    It trains nothing; the next `repro` does. train.yml calls it for a retraining.

    Labels are known only `split.delay_days` after their rows, so the test window ends that many days before
    --until, and the training window moves with it. A random split has no windows. The store's files are
    listed in data/<package>/logged.json, so that later files do not change this training.
    """
    from loop.core import params
    from loop.pipeline.store import pin

    name, wanted = project.package, project.params
    store = store or wanted.monitor.store
    if not store:
        raise LoopError(
            f"params.yaml: models.{name}.monitor.store is null, so it is not known where production logs",
            fix="set it, or give --store",
            docs="docs/monitoring.md",
        )
    instant = params.instant(until, "--until")
    sha256 = pin(project, store, instant, anew=False)
    logged = {"store": store, "until": instant.isoformat(), "sha256": sha256}
    changes: dict[str, Any] = {"ingest.logged": logged}
    if isinstance(wanted.split, params.TimeSplit):
        changes["split.until"] = (instant - timedelta(days=wanted.split.delay_days)).isoformat()
    if device:
        changes["train.device"] = device
    if days:
        changes["split.train_days"] = days
    click.echo(f"retrain {name}: {reason}")
    _change(project.root, {f"models.{name}.{key}": value for key, value in changes.items()})


def _current(here: Path, models: Sequence[str]) -> Collection[str]:
    """Bring the stages' fingerprints up to date, and return the models of which no stage would run."""
    from loop.core import dvc
    from loop.pipeline import fingerprints

    fingerprints.write(here)
    return dvc.current(here, models) if len(models) > 1 else ()  # the repro of one model asks DVC anyway


def _repro(here: Path, model: str, current: Collection[str] = ()) -> None:
    """Run a model's stages that are out of date. Raises Rejected if the stage `validate` rejects the data."""
    from loop.core import dvc, models, params

    project = Project(here, model)
    models.check_params(project, project.lock.params(model))  # before hours of stages, not after
    if params.pinned_here(here, project.params.ingest):
        from loop.pipeline import source  # here, as it imports Arrow

        # an up-to-date stage does not read its source, so an edit would go unnoticed
        now = source.source_sha256(project.params.ingest.places, here)
        source.compare(now, project.params.ingest, project.package)
    report = project.build / "validation"
    shutil.rmtree(report, ignore_errors=True)  # of an earlier run
    try:
        dvc.repro(project, current=model in current)
    except dvc.DvcError as error:
        if not report.exists():
            raise
        raise Rejected(
            f"{project.package}: validate stopped the data, for the reason above; nothing was trained"
        ) from error


def _committed(here: Path, model: str) -> None:
    """Raise Rejected if the stages' results are not those in Git. A fork that never trained has none."""
    from loop.core.dvc import begin
    from loop.pipeline.fingerprints import FOLDER

    project = Project(here, model)
    written = [project.metrics, *([project.logged] if project.logged.is_file() else [])]
    files = ["dvc.lock", FOLDER, *(str(path.relative_to(here)) for path in written)]
    git = Git(here)
    if not git.run("log", "-1", "--format=%h", "--", "dvc.lock"):
        said = f"{project.public}: no commit has a dvc.lock yet, so there is nothing to compare with."
        actions.tell(f"{said} Nothing is released until you commit one: {begin(model)}")
        return
    if git.run("status", "--porcelain", "--", *files):
        raise Rejected(
            f"{' or '.join(files)} in Git is not what the params, the code and the data give:\n"
            + git.run("diff", "--unified=0", "HEAD", "--", *files)[:3000],
            fix=f"./loop repro {project.public} && git add {' '.join(files)} && git commit {' '.join(files)}",
        )


def _change(here: Path, changes: dict[str, Any]) -> None:
    """Set keys of params.yaml, and print each value that changes."""
    from loop.core import params, plain

    before = {"models": params.read(here)}
    new = {key: value for key, value in changes.items() if plain.at(before, key) != value}
    if not new:
        click.echo("params.yaml has these values already")
        return
    params.edit(here, new)
    for key, value in new.items():
        click.echo(f"params.yaml: {key}: {plain.at(before, key)} → {value}")
