"""The command line that people and scripts rely on: help, exit codes, JSON, completion, links to the docs."""

import ast
import json
import re
import shutil
import subprocess
from functools import reduce
from pathlib import Path

import click
import here
import pyarrow.parquet as pq
import pytest
from here import dvc_here  # noqa: F401 - a fixture
from trained import MODEL, loop, outside, release, trained, trained_once  # noqa: F401 - fixtures

from loop.cli import COMMANDS, cli, main
from loop.cli.completion import ON_PATH, script
from loop.cli.printing import Printing
from loop.core.errors import Exit
from loop.core.project import Project

# Scripts read these fields of a command's JSON. New ones may be added, but none may be removed or renamed.
FIELDS = {
    "status": "model environment key released blocked due",
    "gate": "verdict reasons challenger.metrics challenger.model_md5 champion.key champion.metrics "
    "difference",
    "history": "model environment changes.0.commit changes.0.when changes.0.author changes.0.subject "
    "changes.0.action changes.0.step changes.0.key changes.0.digest changes.0.why",
    "doctor": "ok findings.0.state findings.0.what findings.0.found findings.0.fix",
}


def command(name: str) -> click.Command:
    """Return a command by its name, which has two words for a group's command."""
    found: click.Command | None = cli
    for word in name.split():
        assert isinstance(found, click.Group)
        found = found.get_command(click.Context(found), word)
    assert found is not None
    return found


GROUPS = {name: found for name in sorted(COMMANDS) if isinstance(found := command(name), click.Group)}
NAMES = [name for name in sorted(COMMANDS) if name not in GROUPS]
NAMES += [f"{name} {inner}" for name, group in GROUPS.items() for inner in group.commands]


@pytest.mark.parametrize("name", [*NAMES, *GROUPS])
def test_help_says_what_a_command_does(name: str, monkeypatch: pytest.MonkeyPatch, capsys):
    """A help text fits 80 columns, its first sentence fits the list of commands, each option has a text."""
    monkeypatch.setenv("COLUMNS", "80")
    found = command(name)
    first = (found.help or "").split("\n")[0]
    assert re.fullmatch(r"[A-Z][a-z]+ .*\.", first), first
    assert found.get_short_help_str(80 - 6 - max(map(len, COMMANDS))) == first.removesuffix(".") + "."
    assert [
        option.name for option in found.params if isinstance(option, click.Option) and not option.help
    ] == []
    run("loop", *name.split(), "--help")
    assert [line for line in capsys.readouterr().out.splitlines() if len(line) > 80] == []


def run(*args: str) -> int:
    """Run the command line in this process and return its exit code."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("sys.argv", list(args))
        with pytest.raises(SystemExit) as end:
            main()
    return int(end.value.code or 0)


def test_help_lists_the_exit_codes(capsys):
    """The help lists every exit code with its meaning, which never changes, because workflows rely on it."""
    run("loop", "--help")
    printed = " ".join(capsys.readouterr().out.split())
    assert all(f"{int(code)} {code.meaning}" in printed for code in Exit)
    assert {code.name: int(code) for code in Exit} == {
        "OK": 0,
        "BUG": 1,
        "BAD_INPUT": 2,
        "KEEP": 3,
        "BLOCK": 4,
        "SUPERSEDED": 5,
        "DRIFT": 6,
        "INTERRUPTED": 130,
    }


@pytest.mark.parametrize("name", [name for name in NAMES if name not in {"version", "completion"}])
def test_a_command_outside_of_a_clone_ends_with_bad_input(name: str, tmp_path: Path):
    """Outside a clone, and with a misspelled option, a command ends with BAD_INPUT and a message."""
    words = name.split()
    for each in (each for each in command(name).params if each.required):
        value = each.type.choices[0] if isinstance(each.type, click.Choice) else "churn"
        words += [each.opts[0], value] if isinstance(each, click.Option) else [value]
    code, printed = here.command(tmp_path, *words)
    assert code == Exit.BAD_INPUT, printed
    assert "rror: " in printed
    assert here.command(tmp_path, *words, "--misspelled")[0] == Exit.BAD_INPUT


def test_an_interrupted_command_has_its_own_exit_code(monkeypatch: pytest.MonkeyPatch):
    """After Ctrl-C a command ends with the exit code that shells expect."""

    def interrupted(*_args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(click.Group, "invoke", interrupted)
    assert run("loop", "version") == Exit.INTERRUPTED


def test_exit_codes_are_named(repository: Path):
    """Our code never exits with a bare number: loop.core.errors names every exit code."""
    bare = []
    for path in sorted((repository / "src" / "loop").rglob("*.py")):
        for call in (each for each in ast.walk(ast.parse(path.read_text())) if isinstance(each, ast.Call)):
            ends = ast.unparse(call.func) in {"sys.exit", "exit", "SystemExit", "ctx.exit", "os._exit"}
            number = call.args and isinstance(call.args[0], ast.Constant) and call.args[0].value
            if ends and isinstance(number, int) and number:
                bare.append(f"{path.relative_to(repository)}:{call.lineno}")
    assert bare == []


def test_workflows_accept_only_the_expected_exit_codes(repository: Path):
    """A step goes on after SUPERSEDED, if another commit came first, and after the monitor's DRIFT only."""
    accepted = {
        (command, int(code))
        for workflow in sorted((repository / ".github" / "workflows").glob("*.yml"))
        for command, code in re.findall(r"\./loop (\S+) .*\[ \$\? -eq (\d+) \]", workflow.read_text())
    }
    changing = {"release", "promote", "rollback", "monitor-release"}
    assert accepted == {*((name, Exit.SUPERSEDED) for name in changing), ("monitor", Exit.DRIFT)}


@pytest.mark.slow
@pytest.mark.usefixtures("dvc_here")
def test_json_is_all_that_is_printed(trained: Path):  # noqa: F811
    """With --json, stdout has only JSON with the known fields, and the exit code is the same as without."""
    release(trained)
    words = {
        "status": [MODEL],
        "gate": [MODEL],
        "history": [MODEL, "--environment", "production"],
        "doctor": [],
        "monitor": [MODEL, "--log", str(logged(trained)), "--environment", "dev"],
    }
    for name, args in words.items():
        expected, _ = here.command(trained, name, *args, GITHUB_ACTIONS="true")
        found = subprocess.run(
            ["./loop", name, *args, "--json"],
            cwd=trained,
            env=outside(GITHUB_ACTIONS="true"),
            capture_output=True,
            check=False,
        )
        assert (found.returncode, found.stdout[:2]) == (expected, b"{\n"), found.stderr
        document = json.loads(found.stdout)
        for path in FIELDS.get(name, "").split():
            keys = [int(key) if key.isdigit() else key for key in path.split(".")]
            reduce(lambda found, key: found[key], keys, document)  # KeyError if a field is missing
    folder = trained / "build" / "card_fraud" / "monitor"
    report = json.loads((folder / "report.json").read_text())
    assert document == report | {"folder": str(folder)}
    assert {name for name in NAMES if isinstance(command(name), Printing)} == words.keys()


def logged(root: Path) -> Path:
    """Write a prediction log with one prediction and one broken line."""
    folder = root / "build" / "log"
    folder.mkdir(parents=True)
    row = pq.read_table(Project(root, MODEL).reference).drop_columns(["TX_FRAUD", "score"]).slice(0, 1)
    time, features = "2026-11-20T00:00:00+00:00", [column[0].as_py() for column in row.columns]
    line = {
        "time": time,
        "id": 1,
        "model": MODEL,
        "version": "x",
        "features": features,
        "score": 0.5,
        "class": 0,
    }
    (folder / "pod-1.jsonl").write_text(f"{json.dumps(line)}\nbroken\n")
    return folder


TYPED = {
    "./loop mon": ["monitor", "monitor-image", "monitor-release"],
    "./loop status ": ["card-fraud"],
    "./loop status card-fraud --environment s": ["staging"],
    "./loop gate card-fraud --json": ["--json"],
}
SHELLS = {
    "bash": """
        source <(./loop completion bash)
        COMP_WORDS=({words}) COMP_CWORD={last} COMPREPLY=()
        _loop_completion ./loop
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """,
    "fish": """
        ./loop completion fish | source
        complete -C '{typed}' | string split -f 1 \\t
    """,
}


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("typed", TYPED)
def test_a_shell_completes(shell: str, typed: str, template: Path, repository: Path):
    """A shell completes commands, models, environments and options of `./loop`."""
    if not (program := shutil.which(shell)):
        pytest.skip(f"{shell} is not installed")
    assert (template / "loop").exists() or shutil.copy(repository / "loop", template / "loop")
    words = typed.split(" ")
    script = SHELLS[shell].format(
        typed=typed, words=" ".join(each or "''" for each in words), last=len(words) - 1
    )
    done = subprocess.run(
        [program, "-c", script], cwd=template, env=outside(), capture_output=True, text=True, check=False
    )
    assert sorted(done.stdout.split()) == TYPED[typed], done.stderr


TYPED_PATHS = {"bash": '"$1"', "zsh": "${words[1]}", "fish": "(commandline -opc)[1]"}


@pytest.mark.parametrize("shell", TYPED_PATHS)
def test_a_completion_script_serves_every_clone(shell: str):
    """The script asks the `loop` whose path was typed, quietly, and works where no `loop` is on PATH."""
    assert f"{shell}_complete" in script(shell)
    assert f" {TYPED_PATHS[shell]} 2>/dev/null" in script(shell)
    assert ON_PATH not in script(shell)


def test_a_completion_script_changes_no_variable_of_a_person():
    """Click's script for zsh sets `key`, in which many people keep the keys of their terminal."""
    assert "local type key descr\n" in script("zsh")


def test_fish_shows_descriptions_whole():
    """Click's script for fish ends a description at its first comma."""
    assert 'string split -m 1 "," $completion' in script("fish")


def test_the_script_for_bash_works_on_macos():
    """The bash of macOS, version 3.2, has neither `compopt` nor `-o nosort`."""
    assert not re.search("compopt|nosort|mapfile|readarray", script("bash"))


@pytest.mark.parametrize("shell", TYPED_PATHS)
def test_a_shell_accepts_its_completion_script(shell: str):
    """Each shell's own parser accepts the completion script for that shell."""
    if not (program := shutil.which(shell)):
        pytest.skip(f"{shell} is not installed")
    done = subprocess.run([program, "-n"], input=script(shell), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def pages(folder: Path) -> set[str]:
    """Return the pages of the docs that code names, as `docs/page.md` or `docs/page.md#heading`."""
    form = re.compile(r"docs/[\w/-]+\.md(#[\w-]+)?")
    trees = (ast.parse(path.read_text()) for path in folder.rglob("*.py"))
    texts = (each.value for tree in trees for each in ast.walk(tree) if isinstance(each, ast.Constant))
    return {text for text in texts if isinstance(text, str) and form.fullmatch(text)}


@pytest.mark.docs
def test_an_error_leads_to_a_page_that_exists(repository: Path):
    """Every page of the docs that an error names exists, and so does the heading in its link."""
    named = pages(repository / "src" / "loop")
    assert len(named) >= 10
    for name in named:
        page, _, heading = name.partition("#")
        text = re.sub(r"(?ms)^```.*?^```$", "", (repository / page).read_text())
        titles = re.findall(r"(?m)^#+ (.*)$", text)
        anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
        assert not heading or heading in anchors, name


def test_an_error_says_where_to_read_on(tmp_path: Path, template: Path):
    """An error links to the docs in the fork's repository, or in the clone until `init` names the fork."""
    clone = tmp_path / "clone"
    shutil.copytree(template, clone, ignore=shutil.ignore_patterns("data", "build", ".git"))
    page = "docs/runbooks/production.md#bring-an-older-release-back"
    words = ("rollback", MODEL, "--environment", "dev", "--why", "w", "--to", "0" * 12, "--no-bar")
    assert here.command(clone, *words)[1].splitlines()[-1] == f"  docs: {page}"
    names = ("--url", "git@github.com:acme/churn.git", "--name", "churn", "--registry", "ghcr.io/acme")
    loop(clone, "init", *names)
    said = here.command(clone, *words)[1].splitlines()[-1]
    assert said == f"  docs: https://github.com/acme/churn/blob/main/{page}"
