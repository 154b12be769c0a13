"""Converts between the two spellings of a model's name."""

import re

from loop.core.errors import LoopError


def package(name: str) -> str:
    """Return the name with underscores, as in Python, DVC and params.yaml. Raises LoopError if not valid."""
    spelled = name.replace("-", "_")
    if not re.fullmatch(r"[a-z]([a-z0-9_]{0,38}[a-z0-9])?", spelled):
        raise LoopError(
            f"model name {name!r} is not valid",
            fix="use 1 to 40 of a-z, 0-9, '-' and '_'; start with a letter, and end with a letter or digit",
        )
    return spelled


def public(name: str) -> str:
    """Return the name with dashes, as in MLflow, Kubernetes and images. Raises LoopError if not valid."""
    return package(name).replace("_", "-")
