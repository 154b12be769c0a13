"""`init`, `new` and `doctor`: making a fork one's own, and knowing what this machine and clone can do."""

import click


@click.command()
@click.option("--name", help="the repository's name; lower case, digits and dashes")
@click.option("--url", help="where Argo CD and people clone it from")
@click.option("--registry", help="images are pushed to REGISTRY/<model>")
@click.option("--models", metavar="NAME,NAME", help="the models that stay; all others are dropped")
def init(name: str | None, url: str | None, registry: str | None, models: str | None) -> None:
    """Set a fork's name, URL and registry, and which models it keeps. Safe to run again; the rest stays."""
    from loop.core import paths, repository
    from loop.fork.folders import keep

    root = paths.root()
    for dropped in keep(root, models.split(",")) if models else ():
        click.echo(f"dropped: {dropped}; git add --all, and commit it")
    options = {"name": name, "url": url, "registry": registry}
    if models and not any(options.values()):
        return
    wanted = repository.initialised(root, {key: value for key, value in options.items() if value is not None})
    changed = repository.write(root, wanted)
    click.echo(f"{repository.PATH}: {'written' if changed else 'already so'}")
    for key, value in wanted.model_dump().items():
        click.echo(f"  {key}: {value}")
    if changed:
        click.echo(f"next: git commit -m 'Name this fork' {repository.PATH} && git push && ./loop doctor")


@click.command()
@click.argument("model")
@click.option(
    "--like", required=True, metavar="MODEL", help="what is copied: a model, or an example of tests/models"
)
def new(model: str, like: str) -> None:
    """Begin a new MODEL as a copy of another, or of an example: its folders and section, renamed."""
    from loop.core import paths
    from loop.core.names import public
    from loop.fork.folders import new as copied

    written = copied(paths.root(), model, like)
    click.echo("\n".join(f"written: {path}" for path in written))
    click.echo(
        f"next: change schema, features and estimator in {written[0]}; ./loop pin {public(model)} --source …"
    )
    click.echo(f"then: ./loop doctor && ./loop repro {public(model)} && ./loop gate {public(model)}")


@click.command()
@click.option(
    "--cache", is_flag=True, help="hash every object in DVC's cache; set aside those that have changed"
)
def doctor(*, cache: bool) -> None:
    """Say what this machine and this clone can do, and how to mend what they can't."""
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    from loop.core import paths
    from loop.core.errors import Exit
    from loop.fork.doctor import examine

    titles = ("", "what", "found", "to mend or to move up")
    table = Table(*(Column(title, overflow="fold") for title in titles), box=None)
    findings = examine(paths.root(), cache=cache)
    for finding in findings:
        sign = {"ok": "[green]ok[/]", "default": "[cyan]default[/]", "bad": "[red]bad[/]"}[finding.state]
        table.add_row(sign, *map(Text, (finding.what, finding.found, finding.fix)))
    Console().print(table)
    if any(finding.state == "bad" for finding in findings):
        raise SystemExit(Exit.BAD_INPUT)
