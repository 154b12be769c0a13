"""The command line. A workflow step is one of these commands, so a person can type what CI runs."""

import sys
from importlib import import_module
from typing import NoReturn

import click

from loop.core import actions
from loop.core.errors import LoopError
from loop.core.markdown import fenced

# name: "module:function", below loop.cli unless it begins with loop_demo. Help and completion import all of
# these modules, so at its top each of them imports only what is quick: click, the standard library,
# loop.core's errors, names and paths.
COMMANDS = {
    "stage": "pipeline:stage",
    "repro": "pipeline:repro",
    "push": "pipeline:push",
    "train": "pipeline:train",
    "pin": "pipeline:pin",
    "retrain": "pipeline:retrain",
    "land": "land:land",
    "models": "models:models",
    "changed": "candidate:changed",
    "status": "candidate:status",
    "gate": "candidate:gate",
    "register": "candidate:register",
    "score": "candidate:score",
    "bento": "serving:bento",
    "rehearse": "serving:rehearse",
    "image": "serving:image",
    "monitor-image": "serving:monitor_image",
    "push-image": "serving:push_image",
    "monitor-release": "delivery:monitor_release",
    "propose-locks": "locks:propose_locks",
    "bundle": "bundle:bundle",
    "unbundle": "bundle:unbundle",
    "attest": "provenance:attest",
    "verify": "provenance:verify",
    "serve": "serving:serve",
    "release": "delivery:release",
    "promote": "delivery:promote",
    "rollback": "delivery:rollback",
    "render": "delivery:render",
    "guard": "delivery:guard",
    "merged": "delivery:merged",
    "history": "delivery:history",
    "monitor": "monitoring:monitor",
    "judge": "monitoring:judge",
    "comment": "candidate:comment",
    "post-reports": "post:post_reports",
    "report": "report:report",
    "new": "fork:new",
    "init": "fork:init",
    "doctor": "fork:doctor",
    "version": "fork:version",
    "upgrade": "fork:upgrade",
    "demo": "loop_demo.command:demo",
    "github": "loop_demo.command:github",
}

# Commands that read more of Git's history than the commit that is checked out. A workflow's job that calls
# one checks out with `fetch-depth: 0`; in any other shallow clone `loop.core.git.Git` fetches the rest.
READS_HISTORY = frozenset(
    {
        "changed",
        "comment",
        "gate",
        "guard",
        "history",
        "judge",
        "merged",
        "monitor",
        "monitor-release",
        "register",
        "release",
        "report",
        "rollback",
    }
)


class Lazy(click.Group):
    """A group whose commands are imported when they are named."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, function = COMMANDS[name].split(":")
        where = module if module.startswith("loop_demo.") else f"loop.cli.{module}"
        command: click.Command = getattr(import_module(where), function)
        return command


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """A pull request is how a model changes."""


def main() -> None:
    """Run the command line; errors that a person can mend are one message and an exit code, no traceback."""
    actions.stop_commands()
    try:
        sys.exit(cli.main(prog_name="loop", standalone_mode=False))
    except LoopError as error:
        _end(error)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except Exception as error:
        if not (theirs := _theirs(error)):
            raise
        _end(theirs)


def _end(error: LoopError) -> NoReturn:
    click.secho(f"error: {error}", fg="red", err=True)
    actions.summary(f"**{type(error).__name__}**\n{fenced(str(error))}")
    sys.exit(error.exit)


def _theirs(error: Exception) -> LoopError | None:
    """An error that a model's own code has raised; None for one of ours, which keeps its traceback."""
    from loop.core import models, paths

    try:
        return models.failure(paths.root(), error)
    except LoopError:  # outside of a clone
        return None
