"""`loop completion`: the scripts by which a shell completes commands, options, models and environments."""

import click

# They call the command by the path that was typed, so that one script serves every clone. Click's own
# scripts look for `loop` on PATH, and its script for bash needs bash 4.4, which macOS does not have.
SCRIPTS = {
    "bash": r"""
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
""",
    "zsh": r"""
_loop_completion() {
  local -a response described plain
  local type value help
  local COMP_WORDS="${words[*]}" COMP_CWORD=$((CURRENT-1))
  export COMP_WORDS COMP_CWORD
  response=("${(@f)$(_LOOP_COMPLETE=zsh_complete ${words[1]} 2>/dev/null)}")
  for type value help in ${response}; do
    case $type in
      plain) if [[ $help == _ ]]; then plain+=("$value"); else described+=("$value:$help"); fi ;;
      dir) _path_files -/ ;;
      file) _path_files -f ;;
    esac
  done
  (( $#described )) && _describe -V unsorted described -U
  (( $#plain )) && compadd -U -V unsorted -a plain
}
compdef _loop_completion loop
""",
    "fish": r"""
function _loop_completion
  set -l typed (commandline -opc)
  set -lx COMP_WORDS (commandline -cp)
  set -lx COMP_CWORD (commandline -t)
  for line in (env _LOOP_COMPLETE=fish_complete $typed[1] 2>/dev/null)
    set -l parts (string split -m 1 , -- $line)
    switch $parts[1]
      case plain
        echo $parts[2]
      case dir
        __fish_complete_directories $parts[2]
      case file
        __fish_complete_path $parts[2]
    end
  end
end
complete --no-files --command loop --arguments "(_loop_completion)"
""",
}


@click.command
@click.argument("shell", type=click.Choice(list(SCRIPTS)))
def completion(shell: str) -> None:
    """Print the script that completes `loop` in a shell.

    Add it once to the shell's own file. It then works in every clone.

    \b
      ./loop completion bash >> ~/.bashrc
      ./loop completion zsh >> ~/.zshrc    (below the line that runs compinit)
      ./loop completion fish > ~/.config/fish/completions/loop.fish
    """  # noqa: D301
    click.echo(SCRIPTS[shell].strip())
