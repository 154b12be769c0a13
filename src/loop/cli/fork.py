"""The commands by which a team names, examines and upgrades its fork: `loop init, new, doctor, upgrade`."""

import sys
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from loop.cli import arguments
from loop.cli.printing import Printing, show, table
from loop.core import actions, paths
from loop.core.errors import Exit
from loop.core.git import Git
from loop.core.names import public
from loop.core.results import Finding

if TYPE_CHECKING:
    from loop.fork.upgrade import Upgrade


@click.command()
@click.option("--name", help="Name of the repository: lower-case letters, digits, dashes.")
@click.option("--url", help="Where Argo CD and people clone it from.")
@click.option("--registry", help="Images are pushed to REGISTRY/<model>.")
@click.option("--models", metavar="NAME,NAME", help="The models to keep; all others are deleted.")
@click.option("--environments", metavar="NAME,NAME", help="The environments to keep, production among them.")
@click.option("--remote", metavar="URL", help="DVC's default remote, as s3://bucket/prefix.")
@click.option("--mlflow", metavar="URI", help="MLflow's server; init prints where to set it.")
@click.option(
    "--lean",
    "wheels",
    metavar="PLACE",
    help="Delete the engine's source, and lock its wheels from this folder or URL.",
)
@click.option("--vendor", "vendored", is_flag=True, help="Bring the engine's source back.")
@click.option("--yes", is_flag=True, help="Ask nothing: take the options as they are.")
def init(wheels: str | None, *, vendored: bool, yes: bool, **given: str | None) -> None:
    """Make a fork your team's own.

    On a terminal it asks for what you do not give, with each value as it is now. Then it shows what would
    change, and asks whether to do it. Run it first in a new fork, and again whenever one of these changes.
    With --lean the fork no longer has the engine's source; requirements.lock pins the engine as two wheels.

    \b
      ./loop init --name churn --registry ghcr.io/acme \\
        --url https://github.com/acme/churn.git
    """  # noqa: D301
    from loop.fork import begin
    from loop.fork.lean import convert, vendor

    if wheels and vendored:
        raise click.UsageError("--lean deletes the source that --vendor brings back: give one of them")
    root, asks = paths.root(), not yes and _on_terminal()
    if asks and not (wheels or vendored):
        given = _asked(root, given)
    changes = begin.changes(root, given)
    if wheels:
        then, make = f"two wheels from {wheels}, without its source", partial(convert, root, wheels)
        changes.append(begin.Change("engine", "as it is", then, make))
    if vendored:
        changes.append(begin.Change("engine", "as it is", "its source, in src/loop", partial(vendor, root)))
    if changes:
        table(("what", "now", "then"), ((change.what, change.now, change.then) for change in changes))
        if asks:
            click.confirm("Make these changes?", default=True, abort=True)
    else:
        click.echo("nothing to change: all of this is so already")
    for change in changes:
        change.make()
    if mlflow := given["mlflow"]:
        click.echo(
            f"MLflow: export MLFLOW_TRACKING_URI={mlflow} here, and for CI "
            f"gh variable set MLFLOW_TRACKING_URI --body {mlflow}"
        )
    if changes:
        click.echo("next: git add --all && git commit -m 'Name this fork' && git push && ./loop doctor")


def _on_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def _asked(root: Path, given: dict[str, str | None]) -> dict[str, str | None]:
    """Ask for each value that was not given; returns all, with None for those that a person leaves as is."""
    from loop.fork import begin

    current, offered = begin.now(root), begin.suggested(root)
    for key in [key for key, value in given.items() if value is None]:
        default = offered.get(key, "")
        typed = click.prompt(key, default=default, show_default=bool(default))
        given[key] = typed if typed != current.get(key, "") else None
    return given


@click.command()
@click.argument("model")
@click.option(
    "--like",
    required=True,
    metavar="MODEL",
    shell_complete=arguments.models,
    help="The model to copy: one of this repository, or an example of tests/models.",
)
def new(model: str, like: str) -> None:
    """Begin a new model as a copy of another one.

    It copies the folders and the section of params.yaml under the new name, and prints what to change next.

    \b
      ./loop new churn --like rents
    """  # noqa: D301
    from loop.fork import folders

    written = folders.new(paths.root(), model, like)
    click.echo("\n".join(f"written: {path}" for path in written))
    click.echo(
        f"next: change schema, features and estimator in {written[0]}, and sla and gate.floors in "
        f"{written[-1]} (for another TASK also train, evaluate.threshold and gate.metric); "
        f"./loop pin {public(model)} --source …"
    )
    click.echo(f"then: ./loop doctor && ./loop repro {public(model)} && ./loop gate {public(model)}")


@click.command(cls=Printing)
@click.option("--cache", is_flag=True, help="Hash every object in DVC's cache; set aside those that changed.")
def doctor(*, cache: bool) -> Exit:
    """Check this machine, this clone and each model.

    Run it when something fails, and after `init`, `new` and `upgrade`. `bad` must be fixed, and the command
    then ends with 2. `default` works, and the table says what to move to when you need more.
    """
    from loop.fork.doctor import examine

    findings = examine(paths.root(), cache=cache)
    ok = all(finding.state != "bad" for finding in findings)
    show({"ok": ok, "findings": findings}, lambda: _table(findings))
    return Exit.OK if ok else Exit.BAD_INPUT


def _table(findings: list[Finding]) -> None:
    """Print what was found and, on a line of its own, how to fix it."""
    colours = {"ok": "green", "default": "cyan", "bad": "red"}
    room = min(max(len(each.what) for each in findings), 26)
    for each in findings:
        state = click.style(f"{each.state:7}", fg=colours[each.state])
        click.echo(f"{state}  {each.what:{room}}  {each.found}")
        if each.fix:
            click.secho(f"{'':9}→ {each.fix}", bold=True)


@click.command()
def version() -> None:
    """Print the version of the template that this fork runs."""
    from loop.version import VERSION

    click.echo(VERSION)


@click.command()
@click.option(
    "--to",
    metavar="SOURCE",
    help="The new version: a wheel, or commit:REVISION.  [default: the newest release]",
)
@click.option(
    "--from",
    "base",
    metavar="SOURCE",
    help="The version that this fork is at, if the command does not find it.",
)
@click.option("--dry-run", is_flag=True, help="Only print what would happen to each file.")
@click.option("--no-check", is_flag=True, help="Do not check the new branch; its pull request will.")
def upgrade(to: str | None, base: str | None, *, dry_run: bool, no_check: bool) -> None:
    """Merge another version of the template into this fork.

    The result is a commit on a new branch, made from what you have committed; your work tree stays as it is.
    The branch's own code then checks the branch. If all checks pass and GITHUB_TOKEN is set, the branch
    becomes a pull request. The command ends with 4 if there are conflicts to settle or if a check fails; the
    branch stays.

    \b
      ./loop upgrade --to loop-0.3.0-py3-none-any.whl --dry-run
    """  # noqa: D301
    from loop.core import github
    from loop.fork import proposal, releases, upgrade

    root = paths.root()
    git = Git(root)
    release = releases.newest(git) if to is None else releases.Release(source=to)
    if not release.source:
        actions.tell(f"nothing to do: {release.why}")
        return
    planned = upgrade.plan(git, release.source, base, release.version)
    _tell(planned, every=dry_run)
    if dry_run:
        return
    if all(row.what == "kept: yours" for row in planned.rows):
        click.echo(f"nothing to do: this fork has all of {planned.to}")
        return
    upgrade.write(git, planned)
    branch = planned.branch
    actions.output(branch=branch)
    proposed = f"git push origin {branch}, and open one pull request"
    if planned.conflicts:
        click.echo(
            f"next: git switch {branch}, settle the conflicts above, git commit -a, ./loop doctor, {proposed}"
        )
        raise SystemExit(Exit.BLOCK)
    if not no_check and (failed := proposal.check(git, branch)):
        said = f"failed on {branch}: {', '.join(failed)}"
        click.echo(f"{said}; next: git switch {branch}, fix it, commit, {proposed}")
        raise SystemExit(Exit.BLOCK)
    if github.token():
        click.echo(proposal.propose(git, github.GitHub.of_environment(root), branch, branch))
    else:
        click.echo(f"next: {proposed}; to look at it first: git switch {branch}")


@click.command("propose-upgrade")
@click.argument("branch")
def propose_upgrade(branch: str) -> None:
    """Open or update the pull request of an upgrade.

    It pushes a BRANCH that `upgrade` has made as origin's branch `upgrade`. A later upgrade updates the same
    pull request. The workflow *Upgrade* runs it.

    \b
      ./loop propose-upgrade upgrade-0.3.0
    """  # noqa: D301
    from loop.core.github import GitHub
    from loop.fork import proposal

    github = GitHub.of_environment()
    said = proposal.propose(Git(paths.root()), github, branch, proposal.BRANCH)
    github.dispatch("ci.yml", {}, ref=proposal.BRANCH)  # a push by a run's token starts nothing
    actions.tell(said)


@click.command("propose-locks")
@arguments.reason_option
def propose_locks(reason: str) -> None:
    """Open or update the pull request of the locks.

    refresh-lock.yml calls it after `make lock`. There is at most one such pull request.
    """
    from loop.core.github import GitHub
    from loop.delivery import proposal

    where = proposal.locks(paths.root(), GitHub.of_environment(), reason)
    actions.tell(f"the locks change: {where}" if where else "no lock has changed")


def _tell(planned: "Upgrade", *, every: bool) -> None:
    """Print what an upgrade does: each path with `every`, else only those that a person should look at."""
    from loop.fork.upgrade import BY_HAND

    shown = [row for row in planned.rows if every or row.what in {"conflict", "kept: yours", "migrated"}]
    click.echo(f"base: {planned.base}\nto: {planned.to}")
    for row in shown:
        click.echo(f"{row.what:17}  {row.path}{f'  ({row.note})' if row.note else ''}")
    counts = Counter(row.what for row in planned.rows)
    click.echo(", ".join(f"{count} {what}" for what, count in sorted(counts.items())) or "no path changes")
    if by_hand := [entry for entry in planned.news if entry.startswith(BY_HAND)]:
        click.echo("\n".join(("for a person to do:", *by_hand)))
    if planned.conflicts and planned.news:
        click.echo("\n".join(("why, by the template's changelog:", *planned.news)))
