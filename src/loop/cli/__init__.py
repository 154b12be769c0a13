"""The command line. Each step of a workflow is one of these commands, so a person can run what CI runs."""

import sys
from contextlib import suppress
from importlib import import_module
from typing import NoReturn

import click

from loop.core import actions
from loop.core.errors import Exit, LoopError
from loop.core.markdown import fenced

# Each section of the help: the modules of its commands, below loop.cli unless a module has a dot, each with
# commands. Help and completion import all of these modules, so at its top each of them imports only what is
# quick: click, the standard library, loop.core's actions, errors, git, names, paths, project and results.
MODULES = {
    "Train": {"pipeline": "pin repro train models stage push"},
    "Judge a candidate": {
        "candidate": "gate bento rehearse serve register score changed comment post-reports"
    },
    "Publish": {"publish": "image push-image monitor-image attest verify bundle unbundle"},
    "Release": {
        "candidate": "status",
        "delivery": "release promote rollback history monitor-release render guard merged",
    },
    "Watch production": {"monitoring": "monitor judge report", "pipeline": "retrain", "delivery": "land"},
    "Keep a fork": {
        "fork": "init doctor new version upgrade propose-upgrade propose-locks",
        "loop_demo.command": "demo github",
        "completion": "completion",
    },
}
SECTIONS = {title: " ".join(parts.values()).split() for title, parts in MODULES.items()}
COMMANDS = {
    name: module for parts in MODULES.values() for module, names in parts.items() for name in names.split()
}


class Lazy(click.Group):
    """A group that imports the module of a command when the command is named."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module = COMMANDS[name]
        where = import_module(module if "." in module else f"loop.cli.{module}")
        return getattr(where, name.replace("-", "_"))  # type: ignore[no-any-return]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands by section, each with the first sentence of its help."""
        room = formatter.width - 6 - max(map(len, COMMANDS))
        for title, names in SECTIONS.items():
            commands = {name: self.get_command(ctx, name) for name in names}
            rows = [(name, each.get_short_help_str(room)) for name, each in commands.items() if each]
            with formatter.section(title):
                formatter.write_dl([(name.ljust(max(map(len, COMMANDS))), said) for name, said in rows])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the exit codes."""
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(int(code)), code.meaning) for code in Exit])


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Train, release and watch the models of this repository.

    A pull request is how a model changes. Each step of a workflow is one of these commands, so you can run
    by hand whatever CI runs. `./loop COMMAND --help` says when to use a command. If it names step outputs,
    later steps of the workflow can read them.
    """


def main() -> None:
    """Run the command line. An error that a person can fix is one message and an exit code, no traceback."""
    actions.stop_commands(sys.stderr if "--json" in sys.argv else sys.stdout)
    try:
        sys.exit(cli.main(prog_name="loop", standalone_mode=False))
    except LoopError as error:
        _end(error)
    except click.ClickException as error:
        error.show()
        sys.exit(Exit.BAD_INPUT)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(Exit.INTERRUPTED)
    except Exception as error:
        from loop.core import models, paths

        with suppress(LoopError):  # outside of a clone no code is a model's
            if theirs := models.failure(paths.root(), error):
                _end(theirs)
        raise


def _end(error: LoopError) -> NoReturn:
    """Print an error, also in the summary of the workflow's job, and exit with its code."""
    said = f"{error}\n  docs: {_address(error.docs)}" if error.docs else str(error)
    click.secho(f"error: {said}", fg="red", err=True)
    actions.summary(f"**{type(error).__name__}**\n{fenced(said)}")
    sys.exit(error.exit)


def _address(page: str) -> str:
    """Where a page of the docs can be read: a URL of the fork if `init` has named it, else a path."""
    from loop.core import paths, repository

    try:
        own = repository.read(root := paths.root())
    except LoopError:  # outside of a clone, or a broken repository.yaml
        return page
    if not (root / page.partition("#")[0]).is_file():  # a lean fork
        return str(paths.TEMPLATE / page)
    return page if repository.TEMPLATE in own.url else f"{own.server}/{own.slug}/blob/main/{page}"
