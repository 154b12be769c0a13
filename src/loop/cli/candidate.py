"""The commands that judge a candidate, make and serve its bento, and report what CI found."""

import json
from pathlib import Path
from typing import Any

import click

from loop.cli.arguments import environment_option, optional_model, project_argument
from loop.cli.printing import Printing, show, table
from loop.core import actions, paths
from loop.core.errors import Exit, LoopError
from loop.core.project import Project

# not a folder, which `--out` would replace, with all that is in it
PARQUET = click.Path(path_type=Path, dir_okay=False)


@click.command
@click.option(
    "--base", required=True, metavar="COMMIT", help="Commit to compare with; zeros mean a new branch."
)
@click.option(
    "--parts",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="How many jobs share the tests where all of them run.",
)
def changed(base: str, parts: int) -> None:
    """List the tests and models that a change can break.

    CI calls it first and runs only those. Step outputs: tests and models as JSON lists, and `manifests`,
    which is true if the manifests have to be checked.
    """
    from loop.candidate import change

    found = change.changed(paths.root(), base)
    manifests = json.dumps(found.manifests)
    actions.output(tests=json.dumps(found.jobs(parts)), models=json.dumps(found.models), manifests=manifests)
    said = f"tests: {', '.join(found.tests) or 'none'}; models: {', '.join(found.models) or 'none'}"
    click.echo(f"{said}; manifests: {manifests}")


@click.command(cls=Printing)
@project_argument
@environment_option(default="production", show_default=True, help="Environment to compare with.")
def status(project: Project, environment: str) -> None:
    """Show whether this work tree has a release to make.

    It computes the key of the release that this work tree would make, and compares it with the releases that
    an environment serves and with those that are blocked there. Step outputs: key, released, `barred` (which
    means blocked), due.
    """
    from loop.candidate.champion import state
    from loop.core import plain
    from loop.core.dvc import begin
    from loop.packaging.key import release_key

    found: dict[str, Any] = {"model": project.public, "environment": environment, "key": None}
    found |= {"released": False, "blocked": False, "due": False}
    if project.lock.records(project.model):
        key = release_key(project, device=plain.device(project, environment))
        served = state(project, environment)
        released = any(track is not None and track.key == key for track in (served.stable, served.canary))
        blocked = served.why_barred(key) is not None
        due = not released and not blocked
        found |= {"key": key, "released": released, "blocked": blocked, "due": due}
        said = f"release {key}; released: {json.dumps(released)}; blocked: {json.dumps(blocked)}"
    else:
        said = f"nothing to release, as dvc.lock records no training of {project.public}"
        said += f"; to begin: {begin(project.model)}"
        actions.summary(f"{environment}: {said}")
    outputs = {"released": found["released"], "barred": found["blocked"], "due": found["due"]}
    actions.output(key=found["key"] or "", **{name: json.dumps(value) for name, value in outputs.items()})
    show(found, lambda: click.echo(f"{environment}: {said}"))


@click.command(cls=Printing)
@project_argument
@click.option("--ci", is_flag=True, help="End with 0 for `keep` too; a workflow reads the output `verdict`.")
def gate(project: Project, ci: bool) -> Exit:
    """Decide whether the candidate may replace the champion.

    The candidate is what `repro` has trained in this work tree; the champion is what production serves. The
    verdict is promote (exit code 0), keep (3) or block (4), with the reasons. Step output: verdict.
    """
    from loop.candidate import gate

    answer = gate.gate(project)
    actions.output(verdict=answer["verdict"])
    show(answer, lambda: _table(answer))
    keep = Exit.OK if ci else Exit.KEEP
    return {"promote": Exit.OK, "keep": keep, "block": Exit.BLOCK}[answer["verdict"]]


@click.command
@project_argument
@environment_option(help="Environment whose `serve.device` it is built for.  [default: the first one]")
def bento(project: Project, environment: str | None) -> None:
    """Build the bento of the candidate.

    A bento is a folder with the model, the code that serves it and its locked packages. It is built once for
    all environments that serve on the same device. The commands from `rehearse` to `release` use the bento
    that was built last. Step outputs: key, which is the release key, and bento.
    """
    from loop.core import plain
    from loop.packaging import bento

    built = bento.build(project, device=plain.device(project, environment))
    actions.output(key=built.key, bento=built.tag)
    click.echo(f"{built.tag}: {built.path}")


@click.command
@project_argument
def rehearse(project: Project) -> None:
    """Test the bento by replaying test rows.

    It serves the bento and the one of production on this machine, sends both the same rows, and compares
    scores, failures and latency. It ends with 4 if the bento fails, is too slow, or answers otherwise than
    the model did in training.
    """
    from loop.packaging import rehearse

    actions.tell(rehearse.table(rehearse.rehearse(project)))


@click.command
@project_argument
@click.option(
    "--port", type=click.IntRange(1, 65535), default=3000, show_default=True, help="Port to listen at."
)
def serve(project: Project, port: int) -> None:
    """Serve a bento on this machine, until Ctrl-C.

    It serves the bento that was built last, by the same server as in production, without a prediction log.
    """
    from loop.packaging import bento
    from loop.packaging.process import Server, free_port

    path = bento.built(project).path
    try:  # first, because the other program there could answer in place of this server
        free_port(port)
    except OSError as error:
        fix = f"./loop serve {project.public} --port {free_port()}"
        raise LoopError(f"cannot listen at port {port}: {error.strerror}", fix=fix) from error
    with Server(path, port) as server:
        click.echo(f"{server.url}/predict, ready after {server.ready_after:.1f} s; Ctrl-C ends it")
        if code := server.process.wait():
            raise LoopError(f"the server of {path} ended with {code}:\n{server.output().strip()}")
        click.echo(server.output())


@click.command
@project_argument
def register(project: Project) -> None:
    """Enter the candidate in MLflow's model registry.

    It makes a version unless the registry has this one, and sets the aliases `challenger` and, if the
    registry knows what production serves, `champion`. Step outputs: version, run_id.
    """
    from loop.candidate import register

    entered = register.register(project)
    actions.output(version=entered.version, run_id=entered.run_id)
    click.echo(f"{entered.name}/{entered.version}: run {entered.run_id}")


@click.command
@project_argument
@click.option("--raw", type=PARQUET, required=True, help="Parquet file with the columns of schema.py.")
@click.option("--ids", type=PARQUET, required=True, help="Parquet file with the ids of the rows to score.")
@click.option("--out", type=PARQUET, required=True, help="Parquet file to write the scores to.")
def score(project: Project, raw: Path, ids: Path, out: Path) -> None:
    """Score rows with the code and the model of this work tree.

    The gate calls it in the champion's commit, so that both models score the same rows. It computes the
    features from the raw rows.
    """
    from loop.candidate import score

    score.score(project, raw, ids, out)


@click.command
@optional_model
def comment(model: str | None) -> None:
    """Write the report of a pull request, for `post-reports`.

    The report also goes into the summary of the job. With MODEL it compares the candidate with the champion.
    Without MODEL it says what the pull request changes in the cluster and in the locks. Step output: report,
    the file.
    """
    from loop.review import comment

    path, text = comment.comment(paths.root(), model)
    actions.output(report=path)
    click.echo(text)


@click.command("post-reports")
def post_reports() -> None:
    """Post the reports of a CI run to its pull request.

    report.yml calls it when a run of ci.yml has ended. The pull request's own code may have written these
    reports, so they are cut to a length, and links and mentions in them are made plain text.
    """
    from loop.core.github import GitHub
    from loop.review.post import post, run_of_event

    actions.tell(post(GitHub.of_environment(), run_of_event()))


def _table(answer: dict[str, Any]) -> None:
    """Print each metric of both models, then the verdict and its reasons."""
    champion = answer["champion"] or {"key": "none", "metrics": {}}
    theirs = champion["metrics"]
    rows = [
        (name, f"{value:.4g}", "-" if theirs.get(name) is None else f"{theirs[name]:.4g}")
        for name, value in answer["challenger"]["metrics"].items()
        if isinstance(value, int | float)
    ]
    table(("metric", "challenger", f"champion {champion['key']}"), rows)
    click.secho(answer["verdict"], bold=True)
    for reason in answer["reasons"]:
        click.echo(f"- {reason}")
