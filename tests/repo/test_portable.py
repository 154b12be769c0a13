"""Everything that runs without a cluster also runs on macOS, with its shell, its make and its programs."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest

# Shell code of the launcher, of `make` and of the workflows, which `make demo` runs on a person's machine.
FILES = (
    "loop", "Makefile", "tools/*.mk", "src/loop/fork/lean/Makefile", ".ci/run", "tools/environment",
    "tools/programs", "tools/needs", "tools/wheels", ".github/actions/*/action.yml",
    ".github/actions/setup/setup", ".github/workflows/*.yml",
    "src/loop_demo/github/played/**/*.yml", "src/loop_demo/github/played/**/*.sh",
)  # fmt: skip
# The demo does not run these.
ON_GITHUB_ALONE = {".github/workflows/refresh-lock.yml", ".github/workflows/upgrade.yml"}
# macOS has bash 3.2, GNU make 3.81, and BSD's programs.
BANNED = {
    "an option that only GNU's program has": (
        r"\bsed (-\w+ )*-(i|r)\b|\bgrep (-\w+ )*-\w*P|\breadlink (-\w )*-f|\bdate (-\w )*(-d|--date)"
        r"|\bmv (-\w )*-T|\bxargs (-\w+ )*-(r|d)\b|\bcp .*--(reflink|parents)|\bmktemp .*(-p|--\w)"
        r"|\bstat (-\w )*-c|\bsort .*-V|\bhead .*-n ?-|\bfind .*-printf|\becho -e|\bwc .*--|\bln .*-\w*T"
        r"|\bdu .*-b|\btar .*--(sort|mtime)"
    ),
    "an expression that only GNU's program has": r"\b(grep|sed) [^|;]*\\[bwdsS<>+?|]",
    "a program that macOS lacks": (
        r"(^|[\s;|&(])(nproc|flock|timeout|setsid|tac|realpath|sha256sum|md5sum|ldd|apt-get)(\s|$)"
    ),
    "a path that only Linux has": r"(?<!\w)/(proc|sys|dev/shm)/",
    "bash 4": r"\b(mapfile|readarray|coproc)\b|\b(declare|local) -[An]|\$\{\w+(,|\^)|&>>|\|&|\bwait -n",
    "make 4": r"^\w+ *(!|::)=|\$\((file|let|guile) |^\.ONESHELL|&:",
}
KNOWN = {  # files with a line for another system, or one that first checks whether the program is there
    "tools/environment": "sha256sum",
    "tools/programs": "sha256sum",
    "tools/needs": "apt-get",
}


def test_shell_is_portable(repository: Path):
    """No line of shell needs GNU's programs, a newer bash or make, or Linux."""
    files = {path for pattern in FILES for path in repository.glob(pattern) if path.is_file()}
    assert len(files) > 25
    found = []
    for path in sorted(files):
        name = str(path.relative_to(repository))
        for number, line in enumerate(path.read_text().splitlines(), 1):
            code = re.sub(r"(^|\s)#.*", "", line)
            if name not in ON_GITHUB_ALONE and KNOWN.get(name, code + "?") not in code:
                faults = [why for why, form in BANNED.items() if re.search(form, code)]
                found += [f"{name}:{number}: {why}: {line}" for why in faults]
    assert found == []


LINES = (
    "sed -i s/a/b/ file", "mv -T a b", "grep -oP x", "x | sha256sum", "cat /proc/self", "mapfile -t x",
    "A != ls", r"grep -E 'a\b' x", "date -d now",
)  # fmt: skip


@pytest.mark.parametrize("line", LINES)
def test_each_kind_of_fault_is_found(line: str):
    """The list of banned expressions finds a line of each kind."""
    assert any(re.search(form, line) for form in BANNED.values())


def test_a_package_without_a_macos_wheel_is_replaced_there(repository: Path):
    """xgboost-cpu has no wheel for macOS, so the locks name xgboost for other systems than Linux."""
    wanted = tomllib.loads((repository / "pyproject.toml").read_text())["project"]["dependencies"]
    markers = {each.partition(";")[2].strip() for each in wanted if each.startswith("xgboost")}
    assert markers == {"sys_platform == 'linux'", "sys_platform != 'linux'"}
    for lock in (repository / "requirements.lock", *repository.glob("bentos/*/requirements.lock")):
        if re.search(r"(?m)^xgboost-cpu==", text := lock.read_text()):
            assert re.search(r"(?m)^xgboost==\S+ ; sys_platform != 'linux'", text), lock


def test_a_rehearsals_server_starts_without_setpriv(monkeypatch: pytest.MonkeyPatch):
    """A rehearsal starts its server even on a system without setpriv, which would end it with its parent."""
    from loop.packaging import process

    def popen(words: list[Path | str], **_: object) -> None:
        assert words[0] == Path("env/bin/python")
        raise InterruptedError

    monkeypatch.setattr(process, "environment", lambda _: Path("env"))
    monkeypatch.setattr(process.shutil, "which", lambda _: None)
    monkeypatch.setattr(process.subprocess, "Popen", popen)
    with pytest.raises(InterruptedError):
        process.Server(Path("bento")).__enter__()


def test_the_demos_judge_is_stopped_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A judge that never decides is stopped, also on a system without the program timeout."""
    from loop.core.errors import LoopError
    from loop_demo import story

    (tmp_path / "loop").write_text("#!/bin/sh\nexec sleep 600\n")
    (tmp_path / "loop").chmod(0o755)
    envoy, tell = SimpleNamespace(url=str), SimpleNamespace(line=str)
    stage = SimpleNamespace(clone=tmp_path, model="shop", environment={}, envoy=envoy, tell=tell)
    monkeypatch.setattr(story, "PATIENCE", 0.1)
    with pytest.raises(LoopError, match="the judge ended with -15"):
        story.watch(stage)


def test_a_server_starts_if_no_limit_can_be_set(repository: Path, tmp_path: Path):
    """A server starts even if the limit of open files cannot be raised, as on macOS."""
    code = """
import resource, sys
from types import SimpleNamespace
from loop.runtime import serve
def refuse(*_): raise ValueError("current limit exceeds maximum limit")
resource.setrlimit = refuse
serve.application = serve.listen = lambda *_: None
serve.Server = lambda *_: SimpleNamespace(run=lambda _: print("served"), started=True)
sys.argv = ["serve"]
serve.main()
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(repository / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "served\n", done.stderr
