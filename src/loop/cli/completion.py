"""`loop completion`: the scripts by which a shell completes commands, options, models and environments."""

import click
from click.shell_completion import FishComplete, ZshComplete

# Not Click's script, which needs bash 4.4: macOS has bash 3.2, without `compopt` and `-o nosort`.
BASH = r"""
_loop_completion() {
  local IFS=$'\n' line
  COMPREPLY=()
  for line in $(
    COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD _LOOP_COMPLETE=bash_complete "$1" 2>/dev/null
  ); do
    case $line in plain,*) COMPREPLY+=("${line#plain,}") ;; esac
  done
}
complete -o default -F _loop_completion loop
"""
SHELLS = {"zsh": ZshComplete, "fish": FishComplete}
NAMES = {"complete_func": "_loop_completion", "complete_var": "_LOOP_COMPLETE", "prog_name": "loop"}
# The path that was typed, in each shell. Click's scripts look for `loop` on PATH, but a clone's is not there.
PATHS = {"zsh": "${words[1]}", "fish": "(commandline -opc)[1]"}
ON_PATH = "(( ! $+commands[loop] )) && return 1"  # zsh: give up without `loop` on PATH
CHANGES = {  # of Click's scripts
    ON_PATH: "local type key descr",  # zsh: the loop's variables, which would replace a person's own
    'split ","': 'split -m 1 ","',  # fish: keep what is behind a description's first comma
}


def script(shell: str) -> str:
    """Return the script for a shell, written so that one script serves every clone."""
    if shell == "bash":
        return BASH
    text = (SHELLS[shell].source_template % NAMES).replace(" loop)", f" {PATHS[shell]} 2>/dev/null)")
    for clicks, ours in CHANGES.items():
        text = text.replace(clicks, ours)
    return text


@click.command
@click.argument("shell", type=click.Choice(["bash", *SHELLS]))
def completion(shell: str) -> None:
    """Print the script that completes `loop` in a shell.

    Add it once to the shell's own file. It then works in every clone.

    \b
      ./loop completion bash >> ~/.bashrc
      ./loop completion zsh >> ~/.zshrc    (below the line that runs compinit)
      ./loop completion fish > ~/.config/fish/completions/loop.fish
    """  # noqa: D301
    click.echo(script(shell).strip())
