"""docs/tutorial.md, typed as it stands: every command runs, and every file is written, in order."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from trained import REPOSITORY, outside, untrained

FENCE = re.compile(r'^```(\w+)(?: title="(.+?)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)


@pytest.mark.timeout(3600)
def test_the_tutorial(tmp_path: Path, cache: Path) -> None:
    """Each block of the page is one of commands that run, a file, a change to a file, or shown output."""
    template, home = tmp_path / "template", tmp_path / "home"
    home.mkdir()
    page = (REPOSITORY / "docs/tutorial.md").read_text()
    url = page.partition("git clone ")[2].split()[0]  # here Git finds this work tree at that URL
    _template(template)
    settings = {"HOME": str(home), "GIT_CONFIG_COUNT": "1"}
    settings |= {"GIT_CONFIG_KEY_0": f"url.{template}.insteadOf", "GIT_CONFIG_VALUE_0": url}
    folder, commands = tmp_path, 0
    try:
        for kind, title, text in FENCE.findall(page):
            if kind == "sh":
                print(text, flush=True)
                if "github stop" in text:  # its last block; history asks GitHub
                    said = _printed(
                        "./loop history diamonds --environment production --json", folder, settings
                    )
                folder = _typed(text, folder, settings)
                commands += 1
            elif kind == "diff":
                _changed(folder / title, text)
            elif title:
                (folder / title).write_text(text)
            else:
                assert kind == "text", f"a block of {kind} is neither run nor written"
    finally:
        _typed("./loop github stop", tmp_path / "shop", settings)
    assert commands > 10
    assert [change["action"] for change in json.loads(said)["changes"]].count("promote") == 6


def _template(root: Path) -> None:
    """A repository with this work tree, on a branch main."""
    untrained(root)
    for command in ("init -q -b main", "add --all", "-c user.name=t -c user.email=t@t commit -qm Template"):
        subprocess.run(["git", *command.split()], cwd=root, check=True)


def _typed(text: str, folder: Path, settings: dict[str, str]) -> Path:
    """Run commands in one shell, stopping at the first that fails; returns the folder that they end in."""
    end = "\npwd >&3"
    place = folder.parent / "pwd"
    subprocess.run(
        ["bash", "-ec", f"exec 3>{place}\n{text}{end}"], cwd=folder, env=outside(**settings), check=True
    )
    return Path(place.read_text().strip())


def _printed(text: str, folder: Path, settings: dict[str, str]) -> str:
    return subprocess.check_output(["bash", "-ec", text], cwd=folder, env=outside(**settings), text=True)


def _changed(path: Path, diff: str) -> None:
    """Replace the lines of a diff that begin with a space or `-` by those that begin with a space or `+`."""
    lines = diff.splitlines(keepends=True)
    before, after = ("".join(line[1:] for line in lines if line[0] in marks) for marks in (" -", " +"))
    text = path.read_text()
    assert text.count(before) == 1, f"{path} does not have these lines once:\n{before}"
    path.write_text(text.replace(before, after))
