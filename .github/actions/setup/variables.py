"""Makes the repository's variables, and the secret STORES line by line, the next steps' environment."""

import json
import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

from loop.core.actions import mask


def stores(lines: list[str]) -> Iterator[tuple[str, str]]:
    """Names and values of lines NAME=value; an error tells a line's number, never what it says."""
    for number, line in enumerate(lines, start=1):
        name, equals, value = line.strip().partition("=")
        if equals and name.isidentifier():
            mask(value)  # a log shows none: GitHub itself hides the whole secret only
            yield name, value
        elif line.strip():
            sys.exit(f"secret STORES: line {number} is not NAME=value")


found = [*json.loads(os.environ["VARIABLES"]).items(), *stores(os.environ["STORES"].splitlines())]
with Path(os.environ["GITHUB_ENV"]).open("a", encoding="utf-8") as file:
    for name, value in found:
        end = secrets.token_hex(8)
        file.write(f"{name}<<{end}\n{value}\n{end}\n")
