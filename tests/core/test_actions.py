"""Commands in a workflow write only summaries, outputs and masks that GitHub accepts."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from loop.core import actions


@pytest.mark.parametrize("character", ["x", "→"])
def test_a_summary_is_not_longer_than_github_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, character: str
) -> None:
    """GitHub shows no summary over 1 MiB, so a longer one is cut, and a sentence says so."""
    path = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(path))
    for size in (700_000, 700_000, 340_000, 8_000, 700_000, 700_000):
        actions.summary(f"### head\n{character * (size // len(character.encode()))}")
    text = path.read_bytes()
    assert 1_040_000 < len(text) <= 1_048_576
    assert text.decode().endswith(f"{actions.LEFT_OUT}\n")
    assert text.decode().count(character) > 1_000_000 // len(character.encode())


@pytest.mark.parametrize("ending", ["\n", "\r", "\r\n"])
def test_an_output_has_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    """A value with a line break could set other outputs, so it is written as one line."""
    monkeypatch.setenv("GITHUB_OUTPUT", str(tmp_path / "output"))
    actions.output(image=f"a{ending}commit=b")
    assert (tmp_path / "output").read_text() == "image=a commit=b\n"


def test_a_secret_of_several_lines_is_masked_line_by_line(capsys: pytest.CaptureFixture[str]) -> None:
    """GitHub hides secrets line by line, so each line of a secret has a mask of its own."""
    actions.mask("begin 100%\r\nabc\n")
    assert capsys.readouterr().out.splitlines() == [
        "::add-mask::begin 100%25%0D%0Aabc%0A",
        "::add-mask::begin 100%25",
        "::add-mask::abc",
    ]


def obeyed(printed: str) -> list[str]:
    """Return the commands, in either form, that GitHub's runner would obey in a step's output."""
    word, found = None, []
    for line in printed.splitlines():
        told = re.match(r"\s*::(\S+?)(?: .*?)?::(.*)", line)
        told = told or re.search(r"##\[(\S+?)(?: .*?)?\](.*)", line)
        if told and word is None and told[1] == "stop-commands":
            word = told[2]
        elif told and word is None:
            found.append(line)
        elif told and told[1] == word:
            word = None
    return found


PRINTS = """
import subprocess, sys
from loop.core import actions
from loop.core.errors import LoopError
import loop.cli

def main(**_):
    subprocess.run(["echo", "::set-output name=commit::b"])
    subprocess.run(["echo", "column ##[set-output name=commit]b"])
    actions.warning("A title", "100%\\n::error::x")
    raise LoopError("raw.parquet: column a\\n::add-mask::e\\n  ::set-output name=commit::b is not known")

loop.cli.cli.main = main
loop.cli.main()
"""


def test_what_is_printed_commands_nothing(repository: Path) -> None:
    """A column's name in an error or in a program's output is not a workflow command; our warning is."""
    done = subprocess.run(
        [sys.executable, "-c", PRINTS],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(repository / "src"), "GITHUB_ACTIONS": "true"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "::add-mask::e" in done.stdout
    assert obeyed(done.stdout) == ["::warning title=A title::100%25%0A::error::x"]
