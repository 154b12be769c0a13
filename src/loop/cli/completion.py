"""`loop completion`: the scripts by which a shell completes commands, options, models and environments."""

import click
from click.shell_completion import BashComplete, FishComplete, ZshComplete

SHELLS = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}
NAMES = {"complete_func": "_loop_completion", "complete_var": "_LOOP_COMPLETE", "prog_name": "loop"}
# The path that was typed, in each shell. Click's scripts look for `loop` on PATH, but a clone's is not there.
PATHS = {"bash": "$1", "zsh": "${words[1]}", "fish": "(commandline -opc)[1]"}
ON_PATH = "(( ! $+commands[loop] )) && return 1"  # zsh: give up without `loop` on PATH
NOSORT = "-o nosort "  # bash: an option that macOS's version 3.2 does not have


def script(shell: str) -> str:
    """Return Click's script for a shell, changed so that one script serves every clone."""
    text = SHELLS[shell].source_template % NAMES
    return text.replace(" loop)", f" {PATHS[shell]})").replace(ON_PATH, "").replace(NOSORT, "")


@click.command
@click.argument("shell", type=click.Choice(list(SHELLS)))
def completion(shell: str) -> None:
    """Print the script that completes `loop` in a shell.

    Add it once to the shell's own file. It then works in every clone.

    \b
      ./loop completion bash >> ~/.bashrc
      ./loop completion zsh >> ~/.zshrc    (below the line that runs compinit)
      ./loop completion fish > ~/.config/fish/completions/loop.fish
    """  # noqa: D301
    click.echo(script(shell).strip())
