"""Passes the repository's variables, and the lines of the secret STORES, to the next steps as environment."""

import json
import os
import re
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

from loop.core.actions import mask, warning

# Variables that are not passed on, because they would change which programs a step runs, or because GitHub
# refuses them. The organization's variables are checked like the repository's.
STEERS = re.compile(
    r"PATH|HOME|SHELL|ENV|BASH_ENV|NODE_OPTIONS|PYTHON[A-Z]+|(LD_|DYLD_|GIT_|GITHUB_|RUNNER_).*"
)


def stores(lines: list[str]) -> Iterator[tuple[str, str]]:
    """Yield names and values from lines NAME=value; an error message has the line's number, not its text.

    Quotes around a value are not part of it, as in a shell and in most .env files.
    """
    for number, line in enumerate(lines, start=1):
        name, equals, value = line.strip().partition("=")
        if quoted := re.fullmatch(r"""(["'])(.*)\1""", value):
            value = quoted[2]
        if equals and name.isidentifier():
            mask(value)  # hide each value in logs, because GitHub hides only the secret as a whole
            yield name, value
        elif line.strip():
            sys.exit(f"secret STORES: line {number} is not of the form NAME=value")


given = json.loads(os.environ["VARIABLES"])
for name in filter(STEERS.fullmatch, given):
    warning("Variables", f"{name} is not passed on, because it would change which programs the steps run")
found = [(name, value) for name, value in given.items() if not STEERS.fullmatch(name)]
found += stores(os.environ["STORES"].splitlines())
with Path(os.environ["GITHUB_ENV"]).open("a", encoding="utf-8") as file:
    for name, value in found:
        end = secrets.token_hex(8)
        file.write(f"{name}<<{end}\n{value}\n{end}\n")
