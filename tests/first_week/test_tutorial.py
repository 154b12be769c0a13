"""docs/tutorial.md works as written: every command runs and every file is written, in order."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from trained import REPOSITORY, outside, untrained

FENCE = re.compile(r'^```(\w+)(?: title="(.+?)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)


@pytest.mark.timeout(3600)
def test_the_tutorial_works_as_written(tmp_path: Path, cache: Path) -> None:
    """All commands of the tutorial succeed, in order, with the files and changes that it shows."""
    template, home = tmp_path / "template", tmp_path / "home"
    home.mkdir()
    page = (REPOSITORY / "docs/tutorial.md").read_text()
    url = page.partition("git clone ")[2].split()[0]  # `settings` makes Git clone this work tree instead
    _make_template(template)
    settings = {"HOME": str(home), "GIT_CONFIG_COUNT": "1"}
    settings |= {"GIT_CONFIG_KEY_0": f"url.{template}.insteadOf", "GIT_CONFIG_VALUE_0": url}
    folder, commands = tmp_path, 0
    try:
        for kind, title, text in FENCE.findall(page):
            if kind == "sh":
                print(text, flush=True)
                if "github stop" in text:  # the last block: `history` needs the stand-in that it stops
                    said = _output_of(
                        "./loop history diamonds --environment production --json", folder, settings
                    )
                folder = _run_commands(text, folder, settings)
                commands += 1
            elif kind == "diff":
                _apply_diff(folder / title, text)
            elif title:
                (folder / title).write_text(text)
            else:
                assert kind == "text", f"the test can neither run nor write a block of {kind}"
    finally:
        _run_commands("./loop github stop", tmp_path / "shop", settings)
    assert commands > 10
    assert [change["action"] for change in json.loads(said)["changes"]].count("promote") == 6


def _make_template(root: Path) -> None:
    """Make a repository of this work tree, with the branch main."""
    untrained(root)
    for command in ("init -q -b main", "add --all", "-c user.name=t -c user.email=t@t commit -qm Template"):
        subprocess.run(["git", *command.split()], cwd=root, check=True)


def _run_commands(text: str, folder: Path, settings: dict[str, str]) -> Path:
    """Run commands in one shell up to the first that fails, and return the folder in which they end."""
    end = "\npwd >&3"
    place = folder.parent / "pwd"
    subprocess.run(
        ["bash", "-ec", f"exec 3>{place}\n{text}{end}"], cwd=folder, env=outside(**settings), check=True
    )
    return Path(place.read_text().strip())


def _output_of(text: str, folder: Path, settings: dict[str, str]) -> str:
    return subprocess.check_output(["bash", "-ec", text], cwd=folder, env=outside(**settings), text=True)


def _apply_diff(path: Path, diff: str) -> None:
    """Replace the lines of a diff that begin with a space or `-` by those that begin with a space or `+`."""
    lines = diff.splitlines(keepends=True)
    before, after = ("".join(line[1:] for line in lines if line[0] in marks) for marks in (" -", " +"))
    text = path.read_text()
    assert text.count(before) == 1, f"{path} does not contain these lines exactly once:\n{before}"
    path.write_text(text.replace(before, after))
