"""Makes the repository's variables, and the secret STORES line by line, the next steps' environment."""

import json
import os
import re
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

from loop.core.actions import mask, warning

# An organization's variables come too. These would change which programs a step runs, or GitHub refuses them.
STEERS = re.compile(
    r"PATH|HOME|SHELL|ENV|BASH_ENV|NODE_OPTIONS|PYTHON[A-Z]+|(LD_|DYLD_|GIT_|GITHUB_|RUNNER_).*"
)


def variables(given: dict[str, str]) -> Iterator[tuple[str, str]]:
    """The repository's and the organization's variables but for those of STEERS, of which it warns."""
    for name, value in given.items():
        if STEERS.fullmatch(name):
            warning("Variables", f"{name} is not passed on: it would change which programs the steps run")
        else:
            yield name, value


def stores(lines: list[str]) -> Iterator[tuple[str, str]]:
    """Names and values of lines NAME=value; an error tells a line's number, never what it says.

    Quotes around a value are not part of it, as in a shell and in most .env files.
    """
    for number, line in enumerate(lines, start=1):
        name, equals, value = line.strip().partition("=")
        if quoted := re.fullmatch(r"""(["'])(.*)\1""", value):
            value = quoted[2]
        if equals and name.isidentifier():
            mask(value)  # a log shows none: GitHub itself hides the whole secret only
            yield name, value
        elif line.strip():
            sys.exit(f"secret STORES: line {number} is not NAME=value")


found = [*variables(json.loads(os.environ["VARIABLES"])), *stores(os.environ["STORES"].splitlines())]
with Path(os.environ["GITHUB_ENV"]).open("a", encoding="utf-8") as file:
    for name, value in found:
        end = secrets.token_hex(8)
        file.write(f"{name}<<{end}\n{value}\n{end}\n")
