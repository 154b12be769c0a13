"""The two spellings of a model's name."""

import re

from loop.core.errors import LoopError


def package(name: str) -> str:
    """How Python, DVC and params.yaml spell a model: `churn_eu`."""
    spelled = name.replace("-", "_")
    if not re.fullmatch(r"[a-z]([a-z0-9_]{0,38}[a-z0-9])?", spelled):
        raise LoopError(
            f"model name {name!r} is not usable",
            fix="use a lower-case letter, then letters, digits, '-' or '_', 40 at most; no '-' or '_' last",
        )
    return spelled


def public(name: str) -> str:
    """How MLflow, Kubernetes, images and people spell a model: `churn-eu`."""
    return package(name).replace("_", "-")
