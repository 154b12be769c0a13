"""Every change of what is served is a commit: `release`, `promote`, `rollback`. What checks and tells it."""

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pathlib import Path

    from loop.delivery.commit import Done, Place

environment_option = click.option("--environment", required=True, help="dev, staging or production")


@click.command()
@click.argument("model")
@click.option(
    "--environment", "environments", required=True, multiple=True, help="dev, staging or production"
)
@click.option("--pull-request", is_flag=True, help="propose it as a canary at weight 0, with the evidence")
@click.option("--why", default="", help="goes into the commit, before the gate's reasons")
def release(model: str, environments: tuple[str, ...], pull_request: bool, why: str) -> None:
    """Bring the built candidate into environments. The same key again changes nothing.

    Exit code 5 where an environment serves a later commit's release, or takes a canary on; others get theirs.
    """
    from loop.core import paths
    from loop.core.errors import Superseded
    from loop.core.git import Git
    from loop.core.github import GitHub
    from loop.delivery import candidate
    from loop.delivery.commit import Place
    from loop.delivery.release import REVIEWED, propose
    from loop.delivery.release import release as release_to

    root = paths.root()
    watched = pull_request or any(environment in REVIEWED for environment in environments)
    found, git = candidate.read(root, model, watched=watched), Git(root)
    refused = []
    for environment in environments:
        place = Place(model, environment)
        try:
            if pull_request:
                done, number = propose(git, GitHub.of_environment(), found, environment, why)
                _tell(place, done, pull_request=number or "")
            else:
                _tell(place, release_to(git, found, environment, why))
        except Superseded as superseded:
            refused.append(f"{place}: {superseded}")
    if refused:
        raise Superseded("\n".join(refused))


@click.command("monitor-release")
@click.argument("model")
@environment_option
@click.option("--why", default="", help="goes into the commit")
def monitor_release(model: str, environment: str, why: str) -> None:
    """Let the image of `loop monitor-image` run judge and drift.

    Exit code 5 while a canary is under way, and where the image there was built from a later commit.
    """
    from loop.core import paths
    from loop.core.git import Git
    from loop.delivery import candidate
    from loop.delivery.commit import Place
    from loop.delivery.release import watch

    place, git = Place(model, environment), Git(paths.root())
    if (image := candidate.monitor(git.root).image) is None:
        click.echo(f"{place}: nothing to do; no engine built an image")
        return
    _tell(place, watch(git, place, image, candidate.on_main(git), why))


@click.command()
@click.argument("model")
@environment_option
@click.option("--key", required=True, help="the release key that the canary is expected to have")
@click.option(
    "--from", "step", required=True, help="the step that it is expected to be at: canary-10, handover …"
)
@click.option("--why", default="", help="goes into the commit")
def promote(model: str, environment: str, key: str, step: str, why: str) -> None:
    """Take a canary one step on. Exit code 5 where it is not (any more) at that step."""
    from loop.core import paths
    from loop.core.git import Git
    from loop.delivery.commit import Place
    from loop.delivery.promote import promote as promote_at

    place = Place(model, environment)
    _tell(place, promote_at(Git(paths.root()), place, key, step, why))


@click.command()
@click.argument("model")
@environment_option
@click.option("--why", required=True, help="goes into the commit, and bars the release")
@click.option(
    "--bar/--no-bar", default=True, help="whether the canary's release may never come again [default: --bar]"
)
@click.option("--key", help="only this release, not one that came since")
@click.option("--to", help="no canary hurts, stable does: the release key for it to serve as it did before")
def rollback(  # noqa: PLR0917 — click passes by name
    model: str, environment: str, why: str, bar: bool, key: str | None, to: str | None
) -> None:
    """Take the canary out, give stable all traffic and bar the release, in one commit.

    With --no-bar: it may come again, as when the cluster had no room for it.
    With --to: take out what stable serves and bring back an earlier release, whatever the gate says of it.
    """
    from loop.core import paths
    from loop.core.errors import LoopError
    from loop.core.git import Git
    from loop.delivery import rollback as rolling_back
    from loop.delivery.commit import Place

    place, git = Place(model, environment), Git(paths.root())
    if to and not bar:
        raise LoopError(
            "--to bars the release that it takes from stable, so it goes with no --no-bar",
            fix="leave one of them out",
        )
    if to:
        _tell(place, rolling_back.restore(git, place, to, why, key))
        return
    done = rolling_back.rollback(git, place, why, key, bar=bar)
    _tell(place, done)
    if not done.commit:
        click.echo("no canary is there to take out; where stable hurts, --to brings an earlier release back")


@click.command()
@click.argument("model", required=False)
@click.option("--environment", help="dev, staging or production")
@click.option("--check", is_flag=True, help="reject what breaks a policy or a schema; print nothing else")
@click.option("--base", metavar="COMMIT", help="also reject what the cluster could not change since then")
@click.option("--kserve", is_flag=True, help="print the release as a KServe InferenceService instead")
def render(model: str | None, environment: str | None, check: bool, base: str | None, kserve: bool) -> None:
    """Print an environment's manifests as Argo CD will apply them.

    With --check and no model, check every overlay, and that no two of them answer to one host. One that
    serves nothing yet is also checked as its first release will make it.
    """
    from loop.core import paths
    from loop.core.errors import LoopError
    from loop.delivery import overlays
    from loop.delivery import render as rendering

    root, keep = paths.root(), "objects keep to schema and policy"
    if kserve and (check or not model or not environment):
        raise click.UsageError("--kserve wants a model and its --environment, and no --check")
    if not model and check and not environment:
        for overlay, count in _checked(root, base).items():
            click.echo(f"{overlay}: {count} {keep}")
    elif not model or not environment or base:
        raise LoopError(
            "render wants a model and its --environment, or --check alone, which may have a --base",
            fix="./loop render --check, or ./loop render MODEL --environment ENVIRONMENT",
        )
    elif check:
        one = overlays.Overlay(environment, rendering.overlay(root, model, environment).name)
        click.echo(f"{one}: {len(overlays.check_one(root, one))} {keep}")
    elif kserve:
        from loop.delivery.kserve import inference_service
        from loop.delivery.kserve import text as as_yaml

        one = overlays.Overlay(environment, rendering.overlay(root, model, environment).name)
        objects = rendering.documents(rendering.build(root / str(one)))
        click.echo(as_yaml(inference_service(objects, one.state(root))), nl=False)
    else:
        click.echo(rendering.build(rendering.overlay(root, model, environment)), nl=False)


def _checked(root: "Path", base: str | None) -> dict[str, int]:
    """How many objects each overlay renders to. Compares with the commit where HEAD left `base`, if known."""
    from loop.core.git import Git
    from loop.delivery import overlays

    git = Git(root)
    begin = git.fork_point(base, "HEAD") if base else None
    if base and not begin:
        click.echo(f"compared with nothing, as the base {base[:12]} is unknown here")
    if not begin:
        return overlays.check(root)
    with git.worktree(begin) as before:
        return overlays.check(root, before)


@click.command()
@click.argument("base")
@click.argument("head")
def guard(base: str, head: str) -> None:
    """Reject a machine's commit in BASE..HEAD that touches what people own, and outputs that HEAD tracks.

    BASE may be unknown (zeros, empty, or replaced by a forced push): then all history of HEAD is checked.
    As a server's pre-receive hook: `while read old new ref; do loop guard $old $new || exit 1; done`.
    """
    from pathlib import Path

    from loop.core.git import Git
    from loop.delivery.guard import check_range

    checked, which = check_range(Git(Path.cwd()), base, head)
    click.echo(f"{checked} commits by the bot, all of machine-owned files only; looked at commits {which}")


@click.command()
@click.argument("name", metavar="COMMIT")
def merged(name: str) -> None:
    """Print the whole SHA of a commit that main has merged; reject any other (exit 4)."""
    from pathlib import Path

    from loop.core import actions
    from loop.core.git import Git
    from loop.delivery.merged import merged as merged_commit

    commit = merged_commit(Git(Path.cwd()), name)
    actions.output(commit=commit)
    click.echo(commit)


@click.command()
@click.argument("model")
@environment_option
def history(model: str, environment: str) -> None:
    """Show what an environment served, when and why, from Git's log."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from loop.core import paths
    from loop.core.git import Git
    from loop.core.text import one_line
    from loop.delivery.commit import Place
    from loop.delivery.history import history as read

    place = Place(model, environment)
    console = Console()
    if not console.is_terminal:
        console.width = 140
    table = Table("date", "action", "step", "release key", "digest", "why", "commit", title=str(place))
    for entry in read(Git(paths.root()), place):
        when, digest = entry.when[:16].replace("T", " "), entry.digest.removeprefix("sha256:")[:8]
        action = entry.action or f"{entry.subject} ({entry.author})"
        cells = (when, action, entry.step, entry.key, digest, entry.why, entry.commit[:8])
        table.add_row(*(Text(one_line(cell)) for cell in cells))  # as a string, `[/]` is a tag of Rich's
    console.print(table)


def _tell(place: "Place", done: "Done", **outputs: object) -> None:
    """Say what was done, to the person and to the workflow."""
    from loop.core import actions
    from loop.core.markdown import inert
    from loop.delivery.steps import described

    what = f"commit {done.commit[:12]}" if done.commit else "nothing to do"
    said = f"{place}: {what}; {described(done.after)}"
    for note in done.notes:
        click.echo(f"{place}: {note}")
    click.echo(
        said + "".join(f"; {name.replace('_', ' ')} {value}" for name, value in outputs.items() if value)
    )
    canary = done.after.canary or done.after.stable
    actions.output(commit=done.commit or "", step=done.step, key=canary.key if canary else "", **outputs)
    actions.summary("\n".join(f"- {inert(line)}" for line in (said, *done.notes)))
