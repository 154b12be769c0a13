"""The commands that change what is served, each by one commit, and those that check and list such commits."""

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from loop.cli.arguments import (
    environment_option,
    known_model,
    models,
    optional_model,
    project_argument,
    reason_option,
)
from loop.cli.printing import Printing, show, table
from loop.core import actions, paths
from loop.core.errors import LoopError, Superseded
from loop.core.git import Git
from loop.core.project import Project
from loop.core.results import Entry

if TYPE_CHECKING:
    from loop.delivery.commit import Done, Place

place_option = environment_option(required=True)
why_option = click.option("--why", default="", metavar="TEXT", help="The reason, for the commit's message.")


@click.command()
@project_argument
@environment_option(
    "places",
    required=True,
    multiple=True,
    help="A folder of kustomize/overlays, such as dev; may be given several times.",
)
@click.option(
    "--pull-request", is_flag=True, help="Propose it in a pull request, as a canary without traffic."
)
@why_option
def release(project: Project, places: tuple[str, ...], pull_request: bool, why: str) -> None:
    """Release the candidate to one or more environments.

    The candidate must have been built, rehearsed and pushed here. Each environment gets one commit on main,
    which Argo CD applies. Nothing happens if it is released there already. With --pull-request, a person
    merges the commit; production is released in this way.

    \b
      ./loop release churn --environment dev --environment staging

    It ends with 5 if an environment serves a later commit or has a canary under way. It leaves that one
    alone, and the other environments get their release. Step outputs: commit, step, key, and pull_request.
    """  # noqa: D301
    from loop.core.github import GitHub
    from loop.delivery import candidate, release

    watched = pull_request or any(environment in release.REVIEWED for environment in places)
    found, refused = candidate.read(project, watched=watched), []
    candidate.check_current(project, found.track)
    for environment in places:
        git, place = _at(project, environment)
        try:
            if pull_request:
                done, number = release.propose(git, GitHub.of_environment(), found, environment, why)
                _tell(place, done, pull_request=number or "")
            else:
                _tell(place, release.release(git, found, environment, why))
        except Superseded as superseded:
            refused.append(f"{place}: {superseded}")
    if refused:
        raise Superseded("\n".join(refused))


@click.command("monitor-release")
@project_argument
@place_option
@why_option
def monitor_release(project: Project, environment: str, why: str) -> None:
    """Release a new image of judge and monitor alone.

    Use it if the image of `monitor-image` has changed and no release is due, because a release brings that
    image with it. It ends with 5 while a canary is under way, and if the image there is from a later commit.
    """
    from loop.delivery import candidate
    from loop.delivery.release import watch

    git, place = _at(project, environment)
    if (image := candidate.monitor(git.root)) is None:
        click.echo(f"{place}: nothing to do; no engine built an image")
        return
    _tell(place, watch(git, place, image, git.head(), why))


@click.command()
@project_argument
@place_option
@click.option(
    "--key",
    metavar="KEY",
    help="Release key that the canary must have.  [default: the key of the canary on main]",
)
@click.option(
    "--from",
    "step",
    required=True,
    metavar="STEP",
    help="Step that the canary must be at, such as canary-10.",
)
@why_option
def promote(project: Project, environment: str, key: str | None, step: str, why: str) -> None:
    """Take a canary one step further.

    The judge starts this through promote.yml. It ends with 5, and changes nothing, if the canary has another
    key or is at another step. `history` lists the steps so far. Give the key if another canary may have begun
    since you looked. Step outputs: commit, step, key.

    \b
      ./loop promote churn --environment production --from canary-10
    """  # noqa: D301
    from loop.delivery import canary

    git, place = _at(project, environment)
    _tell(place, canary.promote(git, place, key, step, why))


@click.command()
@project_argument
@place_option
@click.option("--why", required=True, metavar="TEXT", help="The reason, for the commit and for the block.")
@click.option(
    "--bar/--no-bar", default=True, help="Whether this release may never come again.  [default: --bar]"
)
@click.option("--key", metavar="KEY", help="Do it only if this is the release that would be taken out.")
@click.option(
    "--to", metavar="KEY", help="Replace stable, not the canary: the earlier release to serve again."
)
def rollback(  # noqa: PLR0917 — click passes by name
    project: Project, environment: str, why: str, bar: bool, key: str | None, to: str | None
) -> None:
    """Remove a canary, or bring an earlier release back.

    Without --to, one commit removes the canary, gives stable all traffic, and blocks the canary's release.
    Use --no-bar if the release is not to blame, as when the cluster had no room for it.

    Use --to if stable itself is bad. One commit then brings back a release that this environment has served
    before, and blocks the one that it replaces. The gate is not asked. Step outputs: commit, step, key.

    \b
      ./loop rollback churn --environment production --why "p99 doubled"
      ./loop history churn --environment production    (lists the keys for --to)
    """  # noqa: D301
    from loop.delivery import canary

    git, place = _at(project, environment)
    if to and not bar:
        raise LoopError(
            "--to always blocks the release that it replaces, so --no-bar cannot be given with it",
            fix="leave one of them out",
            docs="docs/runbooks/production.md#bring-an-older-release-back",
        )
    if to:
        _tell(place, canary.restore(git, place, to, why, key))
        return
    done = canary.rollback(git, place, why, key, bar=bar)
    _tell(place, done)
    if not done.commit:
        click.echo("there is no canary; if stable is bad, --to KEY brings an earlier release back")


@click.command()
@optional_model
@environment_option()
@click.option("--check", is_flag=True, help="Check every overlay instead of printing one.")
@click.option(
    "--base", metavar="COMMIT", help="Also reject a change since COMMIT that a cluster refuses to apply."
)
@click.option("--kserve", is_flag=True, help="Print the release as a KServe InferenceService instead.")
def render(model: str | None, environment: str | None, check: bool, base: str | None, kserve: bool) -> None:
    """Print the manifests that Argo CD will apply.

    With --check it prints no manifests, but ends with 4 if one breaks a schema or a policy, or if two
    overlays serve one host. An overlay that serves nothing yet is checked as its first release will make it.

    \b
      ./loop render churn --environment production
      ./loop render --check
    """  # noqa: D301
    from loop.core import edited
    from loop.delivery import kserve as inference
    from loop.delivery import overlays, render
    from loop.delivery.commit import Place

    root = paths.root()
    if check and not (model or environment or kserve):
        git = Git(root)
        begin = git.fork_point(base, "HEAD") if base else None
        if base and not begin:
            click.echo(f"not compared with the base {base[:12]}, as this clone does not have it")
        with git.worktree(begin) if begin else nullcontext() as before:
            for overlay, count in overlays.check(root, before).items():
                click.echo(f"{overlay}: {count} objects keep to schema and policy")
        return
    if check or base or not model or not environment:
        raise click.UsageError("give MODEL and --environment, or --check, alone or with --base")
    place = Place(model, environment)
    manifests = render.build(root / place.overlay)
    if kserve:
        service = inference.inference_service(render.documents(manifests), place.state(root))
        manifests = edited.block(service)
    click.echo(manifests, nl=False)


@click.command()
@click.argument("base")
@click.argument("head")
def guard(base: str, head: str) -> None:
    """Reject commits by the bot that touch what people own.

    It looks at the commits in BASE..HEAD. If BASE is unknown (zeros, empty, or replaced by a forced push), it
    looks at all history of HEAD. It also ends with 4 if Git tracks outputs that belong to DVC.
    """
    from loop.delivery.guard import check_range

    checked, which = check_range(Git(Path.cwd()), base, head)
    click.echo(f"{checked} commits by the bot touch machine-owned files only; checked commits {which}")


@click.command()
@click.argument("name", metavar="COMMIT")
def merged(name: str) -> None:
    """Print the whole SHA of a commit that main contains.

    A workflow that releases calls it first. It ends with 4 if main does not contain COMMIT, so that nobody
    can release what was never merged. Step output: commit.
    """
    from loop.delivery.guard import merged

    commit = merged(Git(Path.cwd()), name)
    actions.output(commit=commit)
    click.echo(commit)


@click.command(cls=Printing)
@click.argument("model", shell_complete=models)
@place_option
def history(model: str, environment: str) -> None:
    """List what an environment served, when and why.

    It reads the commits on main that changed the environment's release, newest first. The keys that it lists
    are those that `rollback --to` takes.
    """
    from loop.delivery import commit

    project = Project(paths.root(), model)
    git, place = _at(project, environment)
    changes = commit.history(git, place, git.fetch())
    if not changes:  # a model that was dropped still has its history in Git
        known_model(model)
    found = {"model": project.public, "environment": environment, "changes": changes}
    show(found, lambda: _table(str(place), changes))


@click.command
@project_argument
@reason_option
def land(project: Project, reason: str) -> None:
    """Commit what a retraining wrote, and push it to main.

    train-model.yml calls it in a job of its own, if the gate promotes the retrained model. The commit has
    this model's part of params.yaml and dvc.lock, its metrics, and logged.json if it reads a store. It is
    made on top of the current main.
    """
    from loop.delivery import land

    commit = land.land(project, reason)
    actions.tell(f"{project.public}: {f'commit {commit[:12]} on main' if commit else 'main has it already'}")


def _at(project: Project, environment: str) -> tuple[Git, "Place"]:
    """The clone, and the place in it that a command is about."""
    from loop.delivery.commit import Place

    return Git(project.root), Place(project.model, environment)


def _table(title: str, changes: list[Entry]) -> None:
    """Print the changes of an environment, one a row."""
    rows = []
    for entry in changes:
        when, digest = entry.when[:16].replace("T", " "), entry.digest.removeprefix("sha256:")[:8]
        action = entry.action or f"{entry.subject} ({entry.author})"
        rows.append((when, action, entry.step, entry.key, digest, entry.why, entry.commit[:8]))
    table(("date", "action", "step", "release key", "digest", "why", "commit"), rows, title)


def _tell(place: "Place", done: "Done", **outputs: object) -> None:
    """Print what was done, and set it as outputs and summary of the workflow's step."""
    from loop.core.markdown import inert
    from loop.delivery.steps import described, step_of

    what = f"commit {done.commit[:12]}" if done.commit else "nothing to do"
    said = f"{place}: {what}; {described(done.after)}"
    for note in done.notes:
        click.echo(f"{place}: {note}")
    click.echo(
        said + "".join(f"; {name.replace('_', ' ')} {value}" for name, value in outputs.items() if value)
    )
    canary = done.after.canary or done.after.stable
    key, step = canary.key if canary else "", step_of(done.after)
    actions.output(commit=done.commit or "", step=step, key=key, **outputs)
    actions.summary("\n".join(f"- {inert(line)}" for line in (said, *done.notes)))
